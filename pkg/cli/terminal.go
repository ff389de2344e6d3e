package cli

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// screen is what is written to: a terminal has a width and shows colours, a pipe has
// neither.
type screen struct {
	io.Writer

	width   int // columns; 0 where it is no terminal
	colours bool
}

// newScreen looks at the output. NO_COLOR (https://no-color.org) and TERM=dumb are heeded.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: w}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s
	}
	s.width = 80
	if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
		s.width = max(width, 40)
	}
	s.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// terminal says whether a person looks at it.
func (s *screen) terminal() bool { return s.width > 0 }

// colour wraps text in a colour of the terminal's own palette.
func (s *screen) colour(code, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Colours by their codes.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	grey   = "90"
	bold   = "1"
)

// wrap breaks text between words so that it fits with an indent; the first line is not
// indented. What is longer than a line, such as a command, stays whole: it is to be copied.
func (s *screen) wrap(text string, indent int) string {
	if !s.terminal() {
		return text
	}
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > s.width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}
