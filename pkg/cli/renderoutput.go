package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// Forms of output.
const (
	outputYAML      = "yaml"
	outputJSON      = "json"
	outputPatch     = "patch"
	outputDiff      = "diff"
	outputTable     = "table"
	outputTerraform = "terraform"
	outputAWS       = "aws-cli"
)

var renderOutputs = []string{outputYAML, outputJSON, outputPatch, outputDiff}

// renderedFile is one file and what became of it.
type renderedFile struct {
	file

	documents []rendered
}

func (e *environment) write(files []renderedFile, output string) error {
	switch output {
	case outputJSON:
		return e.writeJSON(files)
	case outputPatch:
		return e.writePatches(files)
	}
	var stream []byte
	for _, file := range files {
		text, err := e.yaml(file)
		if err != nil {
			return err
		}
		if output == outputDiff {
			if err := e.writeDiff(file.name, file.text, text); err != nil {
				return err
			}
			continue
		}
		stream = joined(stream, text)
	}
	_, err := e.Out.Write(stream)
	return err
}

// yaml is the file with what changes in it, everything else byte for byte.
func (e *environment) yaml(f renderedFile) ([]byte, error) {
	var out []byte
	for _, document := range f.documents {
		if len(document.operations) == 0 {
			out = append(out, document.Bytes()...)
			continue
		}
		text, kept, err := document.Patch(document.operations)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.name, document.Line, err)
		}
		if !kept && !json.Valid(document.Body) { // JSON has no comments to lose
			fmt.Fprintf(e.ErrOut, "%s%s:%d: the document is written anew, without comments and order: "+
				"anchors, aliases or the braces around it stand in the way of changing it where it is\n", e.terminal(e.ErrOut).mark(warn), oneLine(f.name), document.Line)
		}
		out = append(out, text...)
	}
	return out, nil
}

// joined appends one stream of documents to another.
func joined(stream, next []byte) []byte {
	if len(stream) == 0 {
		return next
	}
	if !bytes.HasSuffix(stream, []byte("\n")) {
		stream = append(stream, '\n')
	}
	if !bytes.HasPrefix(next, []byte("---")) {
		stream = append(stream, "---\n"...)
	}
	return append(stream, next...)
}

func (e *environment) writeJSON(files []renderedFile) error {
	items := []json.RawMessage{}
	for _, file := range files {
		for i, document := range file.documents {
			if document.after == nil && len(document.faults) == 0 && !document.Empty() {
				text, err := document.JSON() // of no kind that is looked at
				if err != nil {
					file.documents[i].faults = []fault{{document.Line, fmt.Errorf("can't be written as JSON: %w", err)}}
				}
				document.after = text
			}
			if document.after != nil {
				items = append(items, document.after)
			}
		}
	}
	if len(items) == 1 {
		return e.encode(items[0])
	}
	return e.encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
}

// encode writes indented JSON.
func (e *environment) encode(value any) error {
	encoder := json.NewEncoder(e.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// verdict is what -o patch says of one object. The paths of the patch are those of the
// object: a Deployment's Pods are changed below /spec/template.
type verdict struct {
	Kind      string          `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Verdict   decide.Kind     `json:"verdict"`
	Reason    decide.Reason   `json:"reason"`
	Policy    string          `json:"policy,omitempty"`
	Source    decide.Source   `json:"source,omitempty"`
	Assumed   bool            `json:"namespaceAssumed,omitempty"`
	Message   string          `json:"message,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
	Patch     json.RawMessage `json:"patch"`
}

func (e *environment) writePatches(files []renderedFile) error {
	all := []verdict{}
	for _, file := range files {
		for _, document := range file.documents {
			for _, r := range document.results {
				all = append(all, verdict{
					Kind: r.object.Kind, Namespace: r.namespace, Name: r.object.Metadata.Name, Verdict: r.Kind, Reason: r.Reason,
					Policy: r.PolicyName, Source: r.Source, Assumed: r.assumed, Message: r.Message, Warnings: r.Warnings, Patch: patch.Append(nil, r.operations),
				})
			}
		}
	}
	return e.encode(all)
}

func (e *environment) writeDiff(name string, before, after []byte) error {
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: slices.Collect(strings.Lines(string(before))), B: slices.Collect(strings.Lines(string(after))), FromFile: name, ToFile: name + " (rendered)", Context: 3,
	})
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	t := e.terminal(e.Out)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "+"):
			line = t.paint(good.colour, line)
		case strings.HasPrefix(line, "-"):
			line = t.paint(bad.colour, line)
		case strings.HasPrefix(line, "@@"):
			line = t.paint("36", line)
		}
		if _, err := fmt.Fprintln(e.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// sources are where a label counted.
var sources = map[decide.Source]string{
	decide.FromPod: "the Pod", decide.FromServiceAccount: "the ServiceAccount", decide.FromNamespace: "the Namespace",
}

// verdicts are what the webhook would answer for each object, and what could not be
// judged.
func (e *environment) verdicts(files []renderedFile, t terminal) string {
	var b strings.Builder
	for _, file := range files {
		for _, document := range file.documents {
			for _, r := range document.results {
				r.say(&b, t)
			}
		}
	}
	for _, file := range files {
		for _, document := range file.documents {
			for _, fault := range document.faults {
				b.WriteString(t.entry(bad, printable(fmt.Sprintf("%s:%d: %v", file.name, fault.line, fault.err))))
			}
		}
	}
	return b.String()
}

func (r *result) say(b *strings.Builder, t terminal) {
	tone := map[decide.Kind]tone{decide.Inject: good, decide.Deny: bad, decide.Skip: plain}[r.Kind]
	where := r.namespace
	if r.assumed {
		where += " (no namespace is given)"
	}
	head := fmt.Sprintf("%s in %s: %s, %s", r.object, where, r.Kind, r.Reason)
	switch {
	case r.excluded:
		head = fmt.Sprintf("%s in %s: %s", r.object, where, r.Message)
	case r.Kind == decide.Inject:
		head += fmt.Sprintf(": policy %q by the label on %s", r.PolicyName, sources[r.Source])
	}
	b.WriteString(t.entry(tone, oneLine(head)))
	if r.Kind == decide.Deny {
		b.WriteString(t.indented(oneLine(r.Message)))
	}
	for _, warning := range r.Warnings {
		b.WriteString(t.indented(t.mark(warn) + oneLine(warning)))
	}
}
