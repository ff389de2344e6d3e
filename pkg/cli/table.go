package cli

import (
	"fmt"
	"strings"
)

// table is rows under a header, aligned by columns.
type table struct {
	header []string
	rows   [][]string
	// elastic columns are shortened where a terminal is too narrow.
	elastic []int
}

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		row[i] = fmt.Sprint(cell)
	}
	t.rows = append(t.rows, row)
}

const (
	columnGap  = 2
	minElastic = 8 // columns that a shortened cell keeps
)

// widths are those of the widest cells, less what does not fit.
func (t *table) widths(limit int) []int {
	widths, total := make([]int, len(t.header)), 0
	for i := range widths {
		widths[i] = length(t.header[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], length(row[i]))
		}
		total += widths[i] + columnGap
	}
	total -= columnGap
	for limit > 0 && total > limit {
		widest := -1
		for _, i := range t.elastic {
			if widths[i] > minElastic && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

func (t *table) print(s *screen) {
	widths := t.widths(s.width)
	line := func(cells []string) string {
		var b strings.Builder
		for i, cell := range cells {
			if length(cell) > widths[i] {
				cell = string([]rune(cell)[:widths[i]-1]) + "…"
			}
			b.WriteString(cell)
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-length(cell)+columnGap))
			}
		}
		return b.String()
	}
	fmt.Fprintln(s, s.paint(bold, line(t.header)))
	for _, row := range t.rows {
		fmt.Fprintln(s, line(row))
	}
}

func length(text string) int { return len([]rune(text)) }

// nothing stands in a column of a table.
const nothing = "-"

// orDash stands for nothing in a column, so that columns can be cut apart by scripts.
func orDash(text string) string {
	if text == "" {
		return nothing
	}
	return text
}
