package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

const validateExamples = `  # all errors of a policy, with file, line and path
  kubectl bucket-access validate -f policies.yaml

  # a directory of policies, as a check in CI
  kubectl bucket-access validate -f policies/ -o json`

func newValidate(e *environment) *cobra.Command {
	var files []string
	output := outputTable
	command := &cobra.Command{
		Use: "validate -f FILE", Short: "Find all errors in policies, and what is legal but unwise", Args: cobra.NoArgs,
		Long: "validate reads policies as the webhook does: ConfigMaps with the label " + v1alpha1.LabelPolicies + ": \"true\", and bare documents of the\n" +
			"kind " + v1alpha1.Kind + ", which are named like their file. Exit code 1: there is an error. Warnings leave it at 0.",
		Example: validateExamples,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case len(files) == 0:
				return required("filename", "-f policies.yaml")
			case !slices.Contains(findingOutputs, output):
				return fmt.Errorf("--output is %q; it must be one of %v", output, findingOutputs)
			}
			read, err := e.readFiles(files)
			if err != nil {
				return err
			}
			v := newValidation()
			for _, file := range read {
				from := len(v.findings)
				for _, document := range file.documents {
					v.document(file.name, document)
				}
				slices.SortStableFunc(v.findings[from:], func(a, b finding) int { return a.Line - b.Line })
			}
			return v.report(e, files, output)
		},
	}
	command.Flags().StringSliceVarP(&files, "filename", "f", nil, "file or directory of policies; - is the standard input")
	command.Flags().StringVarP(&output, "output", "o", outputTable, "table, json or yaml")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(findingOutputs, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return command
}

// validation collects what is found in all files.
type validation struct {
	findings []finding
	policies int
	owners   map[string]string      // of a policy's name: where it was defined first
	roles    map[iam.RoleARN]string // of a role: the first policy that has it
}

func newValidation() *validation {
	return &validation{owners: map[string]string{}, roles: map[iam.RoleARN]string{}}
}

func (v *validation) report(e *environment, files []string, output string) error {
	if v.policies == 0 && len(v.findings) == 0 {
		return fmt.Errorf("%s: no policy: want ConfigMaps with the label %s: %q, or documents of kind %s",
			strings.Join(files, ", "), v1alpha1.LabelPolicies, v1alpha1.PoliciesTrue, v1alpha1.Kind)
	}
	if err := e.list(v.findings, output); err != nil {
		return err
	}
	failed := has(v.findings, severityError)
	if output == outputTable {
		wrong := 0
		for _, f := range v.findings {
			if f.Severity == severityError {
				wrong++
			}
		}
		tone := tone{good.symbol, "", good.colour}
		if failed {
			tone = bad
			tone.word = ""
		}
		fmt.Fprintf(e.ErrOut, "%s%s: %s, %s\n", e.terminal(e.ErrOut).mark(tone), count(v.policies, "policy", "policies"),
			count(wrong, "error", "errors"), count(len(v.findings)-wrong, "warning", "warnings"))
	}
	if failed {
		return errFindings
	}
	return nil
}

func (v *validation) add(f finding) { v.findings = append(v.findings, f) }

// document looks for policies in one document.
func (v *validation) document(file string, d manifest.Document) {
	tree, err := d.Tree()
	switch {
	case err != nil:
		line := d.Line
		if found := lineOf(err.Error()); found > 0 {
			line = found
		}
		v.add(finding{File: file, Line: line, Severity: severityError, Message: err.Error()})
	case tree != nil && barePolicy(tree):
		v.policy(file, file, bareKey(file), string(d.Body), d.Line, func(int) int { return 0 })
	case tree != nil:
		v.node(file, tree)
	}
}

func barePolicy(node *yamlv3.Node) bool {
	return value(node, "kind") == v1alpha1.Kind || strings.HasPrefix(value(node, "apiVersion"), v1alpha1.Group+"/")
}

// node looks for policies in an object.
func (v *validation) node(file string, root *yamlv3.Node) {
	kind, version := value(root, "kind"), value(root, "apiVersion")
	switch {
	case barePolicy(root):
		name := kind + "/" + value(get(root, "metadata"), "name")
		v.add(finding{File: file, Line: root.Line, Object: name, Severity: severityError, Message: "a policy in a List has no name: it is named " +
			"like its file or its data key; put it into a document of its own, or into a ConfigMap"})
	case kind == "List" || kind == "ConfigMapList":
		if items := get(root, "items"); items != nil {
			for _, item := range items.Content {
				v.node(file, manifest.Resolve(item))
			}
		}
	case kind == "ConfigMap" && version == "v1":
		v.configMap(file, root)
	}
}

// configMap looks at each data key of a ConfigMap.
func (v *validation) configMap(file string, root *yamlv3.Node) {
	meta, data := get(root, "metadata"), get(root, "data")
	name := "ConfigMap/" + value(meta, "name")
	labelled := value(get(meta, "labels"), v1alpha1.LabelPolicies) == v1alpha1.PoliciesTrue
	if !labelled {
		if slices.ContainsFunc(manifest.Pairs(data), func(p manifest.Pair) bool { return strings.Contains(p.Value.Value, "kind: "+v1alpha1.Kind) }) {
			v.add(finding{File: file, Line: root.Line, Object: name, Path: "metadata.labels", Severity: severityWarning, Message: fmt.Sprintf(
				"there are policies under data, but the webhook reads only ConfigMaps with the label %s: %q; set it", v1alpha1.LabelPolicies, v1alpha1.PoliciesTrue)})
		}
		return
	}
	if binary := get(root, "binaryData"); binary != nil && len(binary.Content) > 0 {
		v.add(finding{File: file, Line: binary.Line, Object: name, Path: "binaryData", Severity: severityError, Message: "policies are text; write them under data"})
	}
	pairs := manifest.Pairs(data)
	if len(pairs) == 0 {
		v.add(finding{File: file, Line: root.Line, Object: name, Path: "data", Severity: severityWarning,
			Message: "defines no policy; its data keys would be the policies' names"})
		return
	}
	for _, pair := range pairs {
		key, text := pair.Key, pair.Value
		if text.Kind != yamlv3.ScalarNode || text.ShortTag() != "!!str" {
			v.add(finding{File: file, Line: text.Line, Object: name, Path: field.NewPath("data").Key(key.Value).String(), Severity: severityError,
				Message: "must be text: write the policy as a block, behind a |"})
			continue
		}
		first, all := text.Line+1, func(int) int { return 0 }
		if text.Style&yamlv3.LiteralStyle == 0 {
			// In any other style the lines of the text are not those of the file.
			first, all = 1, func(int) int { return text.Line }
		}
		v.policy(file, name, key.Value, text.Value, first, all)
	}
}

// policy reports what is wrong with one policy, whose text begins at line start. Where
// place gives a line, that counts for all.
func (v *validation) policy(file, object, key, text string, start int, place func(int) int) {
	v.policies++
	parsed, faults, lines := policy.ParseAt(key, text, start)
	line := func(path, message string) int {
		found := lines[path]
		if other := place(found); other > 0 {
			return other
		}
		for up := path; found == 0 && strings.ContainsAny(up, ".["); found = lines[up] {
			up = up[:strings.LastIndexAny(up, ".[")] // what is missing would stand in here
		}
		if said := lineOf(message); said > 0 {
			return said
		}
		return max(found, start)
	}
	for _, fault := range faults {
		message := strings.TrimSpace(strings.TrimPrefix(fault.Error(), fault.Field+":"))
		v.add(finding{File: file, Line: line(fault.Field, message), Object: object, Path: fault.Field, Severity: severityError, Message: message})
	}
	if parsed == nil {
		return
	}
	for _, advice := range parsed.Advise(key) {
		v.add(finding{File: file, Line: line(advice.Field, ""), Object: object, Path: advice.Field, Severity: severityWarning, Message: advice.Message})
	}
	if owner, taken := v.owners[parsed.Name]; taken {
		v.add(finding{File: file, Line: line("", ""), Object: object, Path: field.NewPath("data").Key(key).String(), Severity: severityError,
			Message: fmt.Sprintf("policy %q is defined in %s already; of two ConfigMaps the older one counts: rename or remove one", parsed.Name, owner)})
		return
	}
	v.owners[parsed.Name] = file + " (" + object + ")"
	first, shared := v.roles[parsed.Role]
	if !shared {
		v.roles[parsed.Role] = parsed.Name
		return
	}
	at := field.NewPath("data").Key(key).Child("roleARN").String()
	v.add(finding{File: file, Line: line(at, ""), Object: object, Path: at, Severity: severityWarning, Message: fmt.Sprintf(
		"role %s is also that of policy %q: ServiceAccounts of either reach what both grant; give each policy a role of its own", parsed.Role, first)})
}

// saidLine finds the line that a message names: the last is where the fault was noticed.
var saidLine = regexp.MustCompile(`line (\d+)`)

func lineOf(message string) int {
	found := saidLine.FindAllStringSubmatch(message, -1)
	if len(found) == 0 {
		return 0
	}
	line, _ := strconv.Atoi(found[len(found)-1][1]) // digits, as the pattern has it
	return line
}

// get is the value of a key, or nil.
func get(node *yamlv3.Node, key string) *yamlv3.Node {
	if values := manifest.Values(node, key); len(values) > 0 {
		return values[0]
	}
	return nil
}

func value(node *yamlv3.Node, key string) string {
	if found := get(node, key); found != nil {
		return found.Value
	}
	return ""
}
