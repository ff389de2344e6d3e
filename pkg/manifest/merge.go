package manifest

import (
	"bytes"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
)

// merger brings what changed between two writings of an encoder into the lines of the
// original, of which the first is another writing.
type merger struct {
	own, base, next []string
	at              map[int]int // of a line of base: where it is in own
}

// merge brings what changed from before to after into the lines of original. It gives up
// where a changed line is not in original. The result is a proposal: who asks compares
// its content.
func merge(original, before, after []byte) ([]byte, bool) {
	m := &merger{own: lines(original), base: lines(before), next: lines(after), at: map[int]int{}}
	if last := len(m.own) - 1; last >= 0 && !strings.HasSuffix(m.own[last], "\n") {
		m.own[last] += "\n"
	}
	// Lists may be indented in the one and not in the other, so white space does not count.
	for _, code := range difflib.NewMatcherWithJunk(squeezed(m.base), squeezed(m.own), false, nil).GetOpCodes() {
		for i := code.I1; code.Tag == 'e' && i < code.I2; i++ {
			m.at[i] = code.J1 + i - code.I1
		}
	}
	var out bytes.Buffer
	copied := 0
	copyTo := func(end int) {
		for ; copied < end; copied++ {
			out.WriteString(m.own[copied])
		}
	}
	for _, code := range difflib.NewMatcherWithJunk(m.base, m.next, false, nil).GetOpCodes() {
		if code.Tag == 'e' {
			continue
		}
		begin, found := m.place(code)
		if !found || begin < copied {
			return nil, false
		}
		copyTo(begin)
		m.indent(&out, code)
		copied += code.I2 - code.I1
	}
	copyTo(len(m.own))
	return out.Bytes(), true
}

// place is the line of own where the change goes.
func (m *merger) place(code difflib.OpCode) (int, bool) {
	if code.I2 == code.I1 {
		if before, ok := m.at[code.I1-1]; ok {
			return before + 1, true
		}
		behind, ok := m.at[code.I1]
		return behind, ok
	}
	for i := code.I1; i < code.I2; i++ {
		line, known := m.at[i]
		if !known || line != m.at[code.I1]+i-code.I1 {
			return 0, false
		}
	}
	return m.at[code.I1], true
}

// indent writes the new lines, indented as what stands before them is: a line that lies
// below none of the others moves as far as its neighbour or parent has moved, and with it
// what lies below it.
func (m *merger) indent(out *bytes.Buffer, code difflib.OpCode) {
	root, shift, from := -1, 0, code.I1-1
	if code.I2 > code.I1 {
		from = code.I1 // what is replaced shows best where it stood
	}
	for _, line := range m.next[code.J1:code.J2] {
		blank := strings.TrimSpace(line) == ""
		if !blank && (root < 0 || level(line) <= root) {
			root, shift = level(line), m.shift(from, level(line))
		}
		switch {
		case shift > 0 && !blank:
			out.WriteString(strings.Repeat(" ", shift))
		case shift < 0:
			line = line[min(-shift, depth(line)):]
		}
		out.WriteString(line)
	}
}

// shift is how much deeper the line that a line of that level stands beside or below is
// in own than in base, looking back from a line of base.
func (m *merger) shift(from, wanted int) int {
	for i := min(from, len(m.base)-1); i >= 0; i-- {
		line, known := m.at[i]
		if known && strings.TrimSpace(m.base[i]) != "" && level(m.base[i]) <= wanted {
			return depth(m.own[line]) - depth(m.base[i])
		}
	}
	return 0
}

// level orders lines by what lies below what: an item of a list lies below a key of the
// same depth.
func level(line string) int {
	if strings.HasPrefix(line[depth(line):], "- ") {
		return 2*depth(line) + 1
	}
	return 2 * depth(line)
}

func depth(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// squeezed are the lines without white space.
func squeezed(all []string) []string {
	out := make([]string, len(all))
	for i, line := range all {
		out[i] = strings.Join(strings.Fields(line), "")
	}
	return out
}

func lines(text []byte) []string {
	all := strings.SplitAfter(string(text), "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}
