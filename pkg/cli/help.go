package cli

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/mitchellh/go-wordwrap"
	"github.com/spf13/cobra"
)

// helpWidth is that of help in a pipe.
const helpWidth = 80

// fit breaks the help of all commands into the lines of a terminal.
func (e *environment) fit(root *cobra.Command) {
	width := helpWidth
	if t := e.terminal(e.Out); t.width > 0 {
		width = min(max(t.width, 40), 100)
	}
	root.SetUsageTemplate(strings.NewReplacer("FlagUsages |", fmt.Sprintf("FlagUsagesWrapped %d |", width), "for more information", "for more\ninformation").
		Replace(root.UsageTemplate()))
	var each func(*cobra.Command)
	each = func(command *cobra.Command) {
		command.Long, command.Example = paragraphs(command.Long, width), examples(command.Example, width)
		for _, sub := range command.Commands() {
			each(sub)
		}
	}
	each(root)
}

// paragraphs breaks each paragraph anew; what is indented is a command, to be copied.
func paragraphs(text string, width int) string {
	parts := strings.Split(text, "\n\n")
	for i, part := range parts {
		if strings.TrimSpace(part) != "" && !strings.ContainsAny(part[:1], " \t") {
			parts[i] = wordwrap.WrapString(strings.Join(strings.Fields(part), " "), uint(width))
		}
	}
	return strings.Join(parts, "\n\n")
}

// beforeFlag is where a command is broken best.
var beforeFlag = regexp.MustCompile(` (-{1,2}\w|\| )`)

var trailingComment = regexp.MustCompile(`^( *)(\S.*?)\s+(# .*)$`)

// examples breaks commands as a shell takes them, and comments as comments.
func examples(text string, width int) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		if found := trailingComment.FindStringSubmatch(line); len(line) > width && found != nil && !strings.HasPrefix(found[2], "#") {
			out = append(out, found[1]+found[3])
			line = found[1] + found[2]
		}
		margin := line[:len(line)-len(strings.TrimLeft(line, " "))]
		next, end := margin+"  ", ` \`
		if strings.HasPrefix(line[len(margin):], "#") {
			next, end = margin+"# ", ""
		}
		for len(line) > width {
			limit := width - len(end)
			at := strings.LastIndexByte(line[:limit+1], ' ')
			// A flag and its value stay together where they can.
			for _, found := range beforeFlag.FindAllStringIndex(line, -1) {
				if end != "" && found[0] > len(next) && found[0] <= limit {
					at = found[0]
				}
			}
			if at <= len(next) {
				break // one word, which can't be broken
			}
			out = append(out, line[:at]+end)
			line = next + line[at+1:]
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}
