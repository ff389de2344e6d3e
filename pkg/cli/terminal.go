package cli

import (
	"io"
	"os"
	"strings"

	"github.com/mitchellh/go-wordwrap"
	"golang.org/x/term"
)

// terminal is what stands behind a stream: the zero terminal is a pipe or a file.
type terminal struct {
	width  int // columns; 0 is a pipe or a file, where no line is broken
	colour bool
}

// terminalOf looks at a stream. NO_COLOR (https://no-color.org) is honoured.
func terminalOf(w io.Writer) terminal {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || os.Getenv("TERM") == "dumb" {
		return terminal{}
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	return terminal{width: width, colour: os.Getenv("NO_COLOR") == ""}
}

// tone is how good a piece of news is.
type tone struct{ symbol, word, colour string }

// The tones.
var (
	good  = tone{"✓", "", "32"}
	plain = tone{"·", "", "2"}
	warn  = tone{"!", "warning: ", "33"}
	bad   = tone{"✗", "error: ", "31"}
)

// mark begins a piece of news: a symbol on a terminal, a word elsewhere.
func (t terminal) mark(tone tone) string {
	if t.width == 0 {
		return tone.word
	}
	return t.paint(tone.colour, tone.symbol) + " "
}

// entry is a marked piece of news, broken into lines beside its mark.
func (t terminal) entry(tone tone, text string) string {
	if t.width == 0 {
		return tone.word + text + "\n"
	}
	return t.mark(tone) + t.indented(text)[2:]
}

func (t terminal) paint(colour, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// indented breaks a sentence into the lines of a terminal, each indented; elsewhere it
// stays one line.
func (t terminal) indented(text string) string {
	const margin = "  "
	if t.width == 0 {
		return margin + text + "\n"
	}
	// A terminal of more than 100 columns is no better to read at its full width.
	width := max(min(t.width, 100)-len(margin)-1, 20)
	lines := strings.Split(wordwrap.WrapString(text, uint(width)), "\n")
	return margin + strings.Join(lines, "\n"+margin) + "\n"
}
