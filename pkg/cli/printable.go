package cli

import (
	"fmt"
	"strings"
	"unicode"
)

// printable writes out what a terminal would obey instead of showing: names and keys of
// manifests are anybody's text. Line feeds stay.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r == '\n' || unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := fmt.Sprintf("%+q", string(r))
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// oneLine is printable for what must stay on its line.
func oneLine(text string) string { return strings.ReplaceAll(printable(text), "\n", `\n`) }
