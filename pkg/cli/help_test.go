package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHelpFits: no command's help is wider than 80 columns in a pipe, nor than a terminal.
func TestHelpFits(t *testing.T) {
	lines := [][]string{{}}
	for _, command := range []string{"render", "validate", "trust-policy", "doctor", "status", "version", "help", "completion", "completion bash", "completion zsh", "completion fish", "completion powershell"} {
		lines = append(lines, strings.Fields(command))
	}
	for _, command := range lines {
		for width, most := range map[int]int{0: 80, 80: 80, 200: 100} {
			text, code := show(t, width, "", append(command, "--help")...)
			if code != exitFine || !strings.Contains(text, "Usage:") {
				t.Errorf("%v: exit code %d: %s", command, code, text)
			}
			for line := range strings.Lines(text) {
				// Generated commands are copied as they are.
				if columns := widest(line); columns > most && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "  kubectl bucket-access ") {
					t.Errorf("%v at %d: %d columns: %s", command, width, columns, line)
				}
			}
		}
	}
}

// TestExamplesStayCommands when they are broken into lines.
func TestExamplesStayCommands(t *testing.T) {
	for text, want := range map[string]string{
		"  a --flag value --other value":     "  a --flag value \\\n    --other value",
		"  # a comment of many words":        "  # a comment of\n  # many words",
		"  short -a  # what it is for":       "  # what it is for\n  short -a",
		"  one | other --flag | more":        "  one | other \\\n    --flag | more",
		"  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": "  aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	} {
		if diff := cmp.Diff(want, examples(text, 20)); diff != "" {
			t.Error(diff)
		}
	}
	if got := paragraphs("a b c\nd e f\n\n\tkept as it is\n", 5); got != "a b c\nd e f\n\n\tkept as it is\n" {
		t.Errorf("%q", got)
	}
}
