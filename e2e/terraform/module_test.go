package terraform

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	variables   = regexp.MustCompile(`(?m)^variable "(\w+)" \{$`)
	outputNames = regexp.MustCompile(`(?m)^output "(\w+)" \{$`)
	blocks      = regexp.MustCompile(`(?ms)^(\w+) "(\w+)"(?: "(\w+)")? \{(?:\n.*?^)?\}\n`)
	locals      = regexp.MustCompile(`(?ms)^locals \{\n(.*?)^\}\n`)
	assignments = regexp.MustCompile(`(?m)^  (\w+) += `)
	references  = regexp.MustCompile(`\b(?:var|local|module\.documents|data\.aws_\w+|aws_\w+)\.\w+`)
	comments    = regexp.MustCompile(`(?m)(^|\s)#.*$`)
)

// wrapper writes a configuration that calls the module once for each case. The module is
// the real one less what needs the AWS provider: its variables, its call of documents and
// its outputs of them, with the two data sources of AWS as variables.
func wrapper[T any](t *testing.T, cases map[string]T) string {
	t.Helper()
	dir := t.TempDir()
	module := filepath.Join(dir, "account-b")
	if err := os.CopyFS(filepath.Join(module, "documents"), os.DirFS(filepath.Join(moduleDir, "documents"))); err != nil {
		t.Fatal(err)
	}
	declared := read(t, "variables.tf")
	write(t, filepath.Join(module, "variables.tf"), declared)
	call := strings.NewReplacer(
		"data.aws_partition.current.partition", "var.partition", "data.aws_caller_identity.current.account_id", "var.account_id",
	).Replace(block(t, "main.tf", "module", "documents"))
	text := "variable \"partition\" {\n  default  = \"aws\"\n  nullable = false\n}\n" +
		"variable \"account_id\" {\n  default  = \"222222222222\"\n  nullable = false\n}\n" + call
	for _, match := range blocks.FindAllStringSubmatch(read(t, "outputs.tf"), -1) {
		if strings.Contains(match[0], "module.documents.") {
			text += match[0]
		}
	}
	write(t, filepath.Join(module, "main.tf"), text)
	arguments := "  partition = try(each.value.partition, null)\n  account_id = try(each.value.account_id, null)\n"
	for _, match := range variables.FindAllStringSubmatch(declared, -1) {
		arguments += fmt.Sprintf("  %s = try(each.value.%[1]s, null)\n", match[1])
	}
	write(t, filepath.Join(dir, "main.tf"), "module \"cases\" {\n  source = \"./account-b\"\n"+
		"  for_each = jsondecode(file(\"${path.module}/cases.json\"))\n"+arguments+"}\n\noutput \"cases\" {\n  value = module.cases\n}\n")
	content, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cases.json"), string(content))
	return dir
}

// example adds the call of the module in examples/two-clusters to a wrapper.
func example(t *testing.T, dir string) {
	t.Helper()
	call := block(t, "examples/two-clusters/main.tf", "module", "orders")
	if !strings.Contains(call, `"../.."`) {
		t.Fatal("the example does not call the module above it")
	}
	write(t, filepath.Join(dir, "example.tf"), strings.Replace(call, `"../.."`, `"./account-b"`, 1)+"\noutput \"example\" {\n  value = module.orders\n}\n")
}

// TestConfigurationLoads: OpenTofu reads the whole module and the example, as far as it
// does without the provider's schemas: syntax, names that stand twice, unknown blocks.
func TestConfigurationLoads(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(moduleDir)); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{".", "examples/two-clusters", "documents"} {
		must(t, filepath.Join(dir, place), "get")
	}
	var documents struct {
		Providers map[string]any `json:"provider_config"`
	}
	if err := json.Unmarshal([]byte(must(t, dir, "show", "-json", "-module=documents")), &documents); err != nil {
		t.Fatal(err)
	}
	if len(documents.Providers) > 0 {
		t.Errorf("documents needs providers: %v", documents.Providers)
	}
}

// TestNamesAreDeclared: what the module refers to is there, and what is there is used.
// OpenTofu itself would say so only with the AWS provider at hand.
func TestNamesAreDeclared(t *testing.T) {
	declared, used := map[string]bool{}, map[string]bool{}
	for _, name := range []string{"main.tf", "variables.tf", "outputs.tf", "versions.tf"} {
		text := comments.ReplaceAllString(read(t, name), "")
		for _, match := range blocks.FindAllStringSubmatch(text, -1) {
			switch match[1] {
			case "variable":
				declared["var."+match[2]] = true
				match[0] = strings.ReplaceAll(match[0], "var."+match[2], "") // its own validation is no use of it
			case "data":
				declared["data."+match[2]+"."+match[3]] = true
			case "resource":
				declared[match[2]+"."+match[3]] = true
			}
			for _, name := range references.FindAllString(match[0], -1) {
				used[name] = true
			}
		}
		for _, match := range locals.FindAllStringSubmatch(text, -1) {
			for _, name := range assignments.FindAllStringSubmatch(match[1], -1) {
				declared["local."+name[1]] = true
			}
		}
	}
	for _, match := range outputNames.FindAllStringSubmatch(read(t, "documents/outputs.tf"), -1) {
		declared["module.documents."+match[1]] = true
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if !declared[name] {
			t.Errorf("%s is not declared", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if !used[name] && !regexp.MustCompile(`^aws_(s3|iam_role_policy)`).MatchString(name) {
			t.Errorf("%s is declared and not used", name)
		}
	}
	if len(declared) < 30 {
		t.Errorf("only %d names were found", len(declared))
	}
}

// TestDocumentsAreGivenEverything: the module passes every variable of documents on.
func TestDocumentsAreGivenEverything(t *testing.T) {
	passed := map[string]bool{}
	for _, match := range assignments.FindAllStringSubmatch(block(t, "main.tf", "module", "documents"), -1) {
		passed[match[1]] = true
	}
	delete(passed, "source")
	for _, match := range variables.FindAllStringSubmatch(read(t, "documents/variables.tf"), -1) {
		if !passed[match[1]] {
			t.Errorf("documents has a variable %s that main.tf does not pass", match[1])
		}
		delete(passed, match[1])
	}
	if len(passed) > 0 {
		t.Errorf("main.tf passes what documents does not know: %v", slices.Sorted(maps.Keys(passed)))
	}
}

// TestREADMENamesEverything: the tables of inputs and outputs are complete.
func TestREADMENamesEverything(t *testing.T) {
	text := read(t, "README.md")
	for file, pattern := range map[string]*regexp.Regexp{"variables.tf": variables, "outputs.tf": outputNames} {
		for _, match := range pattern.FindAllStringSubmatch(read(t, file), -1) {
			if !regexp.MustCompile("(?m)^\\| [^|]*`" + match[1] + "`").MatchString(text) {
				t.Errorf("README.md has no line for %s of %s", match[1], file)
			}
		}
	}
}

// block is the text of one block of a file of the module.
func block(t *testing.T, file, kind, name string) string {
	t.Helper()
	for _, match := range blocks.FindAllStringSubmatch(read(t, file), -1) {
		if match[1] == kind && match[2] == name {
			return match[0]
		}
	}
	t.Fatalf("%s has no %s %q", file, kind, name)
	return ""
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
