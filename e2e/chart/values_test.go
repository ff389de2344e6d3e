package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// helpText is what the program prints for --help, to whichever stream.
func helpText(t *testing.T, command ...string) string {
	t.Helper()
	path := filepath.Join(root, "bin", name)
	out, err := exec.CommandContext(t.Context(), path, append(command, "--help")...).CombinedOutput()
	if len(out) == 0 {
		t.Fatalf("%s --help: %v; build it with: make build", path, err)
	}
	return string(out)
}

// value is one leaf of values.yaml, with its comment and its default.
type value struct{ path, comment, standard string }

func leaves(t *testing.T) []value {
	t.Helper()
	text, err := os.ReadFile(directory + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var found []value
	var walk func(prefix string, node *yaml.Node)
	walk = func(prefix string, node *yaml.Node) {
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, child := node.Content[i], node.Content[i+1]
			path := strings.TrimPrefix(prefix+"."+key.Value, ".")
			if child.Kind == yaml.MappingNode && len(child.Content) > 0 {
				walk(path, child)
				continue
			}
			var standard any
			if err := child.Decode(&standard); err != nil {
				t.Fatal(err)
			}
			shown, err := json.Marshal(standard)
			if err != nil {
				t.Fatal(err)
			}
			comment := lastLine(key.HeadComment)
			found = append(found, value{path, comment, string(shown)})
		}
	}
	walk("", document.Content[0])
	return found
}

// lastLine is the comment right above a value; an example of the one before may stand above it.
func lastLine(comment string) string {
	lines := strings.Split(comment, "\n")
	return strings.TrimSpace(strings.TrimPrefix(lines[len(lines)-1], "#"))
}

// node is what a test reads of values.schema.json.
type node struct {
	Description string           `json:"description"`
	Additional  any              `json:"additionalProperties"`
	Properties  map[string]*node `json:"properties"`
	Items       *node            `json:"items"`
}

// described lists the leaves of the schema with their descriptions, and complains of objects that are open.
func described(t *testing.T, at string, schema *node, into map[string]string) {
	t.Helper()
	_, free := schema.Additional.(map[string]any) // a map, of which some names may be reserved
	if schema.Properties != nil && schema.Additional != false && !free {
		t.Errorf("values.schema.json: %q lists its properties without additionalProperties: false", at)
	}
	if schema.Description != "" {
		into[at] = schema.Description
		for property, child := range schema.Properties {
			if child.Description == "" {
				t.Errorf("values.schema.json: %s.%s has no description", at, property)
			}
		}
		return
	}
	if schema.Properties == nil {
		t.Errorf("values.schema.json: %s has no description", at)
	}
	for property, child := range schema.Properties {
		described(t, strings.TrimPrefix(at+"."+property, "."), child, into)
	}
}

// TestValuesSchemaAndREADMEAreInStep: with UPDATE_README=1 the README's table is written anew.
func TestValuesSchemaAndREADMEAreInStep(t *testing.T) {
	text, err := os.ReadFile(directory + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	schema, inSchema := &node{}, map[string]string{}
	if err := json.Unmarshal(text, schema); err != nil {
		t.Fatal(err)
	}
	described(t, "", schema, inSchema)
	table := "| value | default | meaning |\n|---|---|---|\n"
	for _, leaf := range leaves(t) {
		if leaf.comment == "" {
			t.Errorf("values.yaml: %s has no comment right above it", leaf.path)
		}
		if inSchema[leaf.path] != leaf.comment {
			t.Errorf("values.schema.json: the description of %s is %q; in values.yaml it is %q", leaf.path, inSchema[leaf.path], leaf.comment)
		}
		delete(inSchema, leaf.path)
		table += fmt.Sprintf("| `%s` | `%s` | %s |\n", leaf.path, leaf.standard, strings.ReplaceAll(leaf.comment, "<", "&lt;"))
	}
	for path := range inSchema {
		t.Errorf("values.schema.json: %s is not in values.yaml; document it there with its default", path)
	}
	compareTable(t, table)
}

func compareTable(t *testing.T, table string) {
	t.Helper()
	const begin, end = "<!-- values -->\n", "<!-- /values -->"
	path := directory + "/README.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	stands, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %q and %q to put the values between", path, begin, end)
	}
	if stands == table {
		return
	}
	if os.Getenv("UPDATE_README") == "" {
		t.Errorf("%s: the table of values is not as values.yaml has it; write it anew with: UPDATE_README=1 go test ./e2e/chart -run InStep", path)
		return
	}
	if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEveryAlertHasARunbook(t *testing.T) {
	text := render(t, "helm", "1.37", "metrics: {prometheusRule: {enabled: true}}")
	readme, err := os.ReadFile(directory + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range regexp.MustCompile(`\bbucket_access_[a-z_]+`).FindAllString(text, -1) {
		if !strings.Contains(string(documented), "`"+strings.TrimSuffix(metric, "_bucket")+"`") {
			t.Errorf("an alert asks for %s, which is no metric of README.md", metric)
		}
	}
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(text, -1)
	if len(alerts) == 0 {
		t.Fatal("there are no alerts")
	}
	for _, alert := range alerts {
		if !strings.Contains(text, "README.md#"+strings.ToLower(alert[1])+"\n") || !strings.Contains(string(readme), "### "+alert[1]+"\n") {
			t.Errorf("alert %s needs a runbook_url to its name and a heading in the chart's README", alert[1])
		}
	}
	for _, headline := range regexp.MustCompile(`\n### (BucketAccess\w+)`).FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(text, "- alert: "+headline[1]+"\n") {
			t.Errorf("README.md has a runbook for %s, which is no alert", headline[1])
		}
	}
}
