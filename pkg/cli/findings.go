package cli

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Severities of findings.
const (
	severityError   = "error"
	severityWarning = "warning"
)

// finding is one thing that is wrong or unwise, and where.
type finding struct {
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"` // from 1; 0 is unknown
	Object   string `json:"object,omitempty"`
	Path     string `json:"path,omitempty"`
	Severity string `json:"severity"`
	Rule     string `json:"rule,omitempty"`
	Message  string `json:"message"`
}

// findingOutputs are the forms in which findings are listed.
var findingOutputs = []string{outputTable, outputJSON, outputYAML}

// list writes findings: as a table a line for each, as compilers do, or with symbols and
// broken lines on a terminal.
func (e *environment) list(findings []finding, output string) error {
	if findings == nil {
		findings = []finding{}
	}
	switch output {
	case outputJSON:
		return e.encode(findings)
	case outputYAML:
		text, err := yaml.Marshal(findings)
		if err != nil {
			return err
		}
		_, err = e.Out.Write(text)
		return err
	}
	t := e.terminal(e.Out)
	for _, f := range findings {
		f.File, f.Object, f.Path, f.Message = oneLine(f.File), oneLine(f.Object), oneLine(f.Path), printable(f.Message)
		tone := bad
		if f.Severity == severityWarning {
			tone = warn
		}
		where := f.File
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		var err error
		switch {
		case t.width > 0:
			message := f.Message
			if f.Path != "" {
				message = f.Path + ": " + message
			}
			_, err = fmt.Fprint(e.Out, t.mark(tone), strings.TrimSpace(where+"  "+f.Object), "\n", t.indented(message))
		case f.Path == "":
			_, err = fmt.Fprintf(e.Out, "%s: %s%s\n", where, tone.word, f.Message)
		default:
			_, err = fmt.Fprintf(e.Out, "%s: %s%s: %s\n", where, tone.word, f.Path, f.Message)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// has says whether any finding is of that severity.
func has(findings []finding, severity string) bool {
	for _, f := range findings {
		if f.Severity == severity {
			return true
		}
	}
	return false
}

// count is a number with its noun.
func count(n int, noun, nouns string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %s", n, nouns)
}
