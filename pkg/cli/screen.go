package cli

import (
	"io"
	"strings"
)

// screen is what is written to, and the terminal that stands behind it, if any.
type screen struct {
	io.Writer
	terminal
}

func (e *environment) screen(w io.Writer) *screen { return &screen{Writer: w, terminal: e.terminal(w)} }

// interactive says whether a person looks at it.
func (s *screen) interactive() bool { return s.width > 0 }

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
	if !s.interactive() {
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
