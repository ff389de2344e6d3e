package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asking is a Pod that names a policy that there is not.
const asking = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api", "labels": {"bucket-access.io/policy": "nope"}}, "spec": {"containers": [{"name": "app", "image": "app"}]}}`

// TestRenderPassesNothingOver: in whatever form a Pod stands in a stream, it is judged, or
// it is said that it can't be.
func TestRenderPassesNothingOver(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	untyped := strings.Replace(asking, `"apiVersion": "v1", "kind": "Pod", `, "", 1)
	configMap := `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}`
	template := strings.Replace(untyped, `"name": "api", `, "", 1)
	for name, test := range map[string]struct {
		input string
		code  int
		want  string
	}{
		"behind another JSON value": {configMap + "\n" + asking + "\n", exitFindings, "Pod/api in default: deny, UnknownPolicy"},
		"on the same line":          {configMap + asking, exitFindings, "Pod/api in default: deny, UnknownPolicy"},
		"in a PodList":              {`{"apiVersion": "v1", "kind": "PodList", "items": [` + untyped + "]}", exitFindings, "Pod/api in default: deny, UnknownPolicy"},
		"in a DeploymentList": {
			`{"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [{"metadata": {"name": "api"}, "spec": {"template": ` + template + "}}]}",
			exitFindings, "Deployment/api in default: deny, UnknownPolicy",
		},
		"behind a carriage return": {"# x\r" + asking + "\n", exitUsage, "error: stdin:2: line 2 or before: content stands behind a comment"},
		"with its kind repeated":   {"kind: Pod\nkind: ConfigMap\napiVersion: v1\n", exitUsage, "stdin:1: is no YAML"},
		"with its kind merged":     {"x: &x {kind: Pod}\n<<: *x\napiVersion: v1\nmetadata: {name: api, labels: {bucket-access.io/policy: nope}}\n", exitFindings, "UnknownPolicy"},
		"behind a broken one": {
			"a: [\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: w2}\n---\n" + asking, exitUsage, "Pod/api in default: deny, UnknownPolicy",
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, test.input, "render", "-n", "default", "-f", "-", "--policies", policies)
			if code != test.code || !strings.Contains(stderr, test.want) || stdout != test.input {
				t.Errorf("exit code %d, want %d: %s%s", code, test.code, stderr, stdout)
			}
			if name == "behind a broken one" && !strings.HasSuffix(stderr, "error: stdin:1: is no YAML: yaml: line 1: did not find expected node content\n"+
				"error: stdin:3: Deployment/w2 has no spec.template\n") {
				t.Errorf("what could not be judged is not said at the end: %s", stderr)
			}
		})
	}
}

// TestRenderLeavesForeignDocumentsAlone: what no API server takes is not render's business.
func TestRenderLeavesForeignDocumentsAlone(t *testing.T) {
	const input = "a: 1\na: .nan\n---\napiVersion: example.com/v1\nkind: Pod\nx: .nan\n---\n"
	policies := write(t, "orders.yaml", ordersPolicy+"---\napiVersion: example.com/v1\nkind: Thing\na: 1\na: .nan\n")
	code, stdout, stderr := plugin(t, input+asking, "render", "-n", "default", "-f", "-", "--policies", policies)
	if code != exitFindings || stdout != input+asking {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	code, _, stderr = plugin(t, input, "render", "-f", "-", "--policies", policies, "-o", "json")
	if code != exitUsage || !strings.Contains(stderr, "error: stdin:1: can't be written as JSON: ") || !strings.Contains(stderr, "error: stdin:4: ") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if _, stdout, _ := plugin(t, "", "render", "-f", "-", "--policies", policies, "-o", "json"); !strings.Contains(stdout, `"items": []`) {
		t.Errorf("no items are %s", stdout)
	}
}

// TestRenderSaysWhereAnObjectIsWrong in the words of its manifest.
func TestRenderSaysWhereAnObjectIsWrong(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	for input, want := range map[string]string{
		"# x\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: 3\n":                                                            "error: stdin:6: Pod/a: spec.containers: want a list, found number\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - image: a\n    name: 3\n":                                        "error: stdin:7: Pod/a: spec.containers[0].name: want a string, found number\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers: 3\n":                         "error: stdin:7: Deployment/a: spec.template.spec.containers: want a list, found number\n",
		"kind: List\nitems:\n- {}\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n  spec:\n    volumes: {}\n":                               "error: stdin:8: Pod/a: spec.volumes: want a list, found {\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\e[2J\\nx\"}\nspec: 1\n":                                                                  `error: stdin:4: Pod/a\x1b[2J\nx: spec: want an object, found number` + "\n",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\e[2J\\nx\", labels: {bucket-access.io/policy: nope}}\nspec: {containers: [{name: a}]}\n": `Pod/a\x1b[2J\nx in default: deny, UnknownPolicy`,
	} {
		code, _, stderr := plugin(t, input, "render", "-n", "default", "-f", "-", "--policies", policies)
		if code == exitFine || !strings.Contains(stderr, want) || strings.Contains(stderr, "\x1b") {
			t.Errorf("exit code %d: %q, want %q", code, stderr, want)
		}
	}
}

// TestRenderWithoutANamespace: what is assumed is said, and a post-renderer assumes nothing.
func TestRenderWithoutANamespace(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	const other = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
	if _, _, stderr := plugin(t, asking, "render", "-f", "-", "--policies", policies); !strings.Contains(stderr, "Pod/api in default (no namespace is given): deny") {
		t.Error(stderr)
	}
	if _, stdout, _ := plugin(t, asking, "render", "-f", "-", "--policies", policies, "-o", "patch"); !strings.Contains(stdout, `"namespaceAssumed": true`) {
		t.Error(stdout)
	}
	code, _, stderr := plugin(t, asking+"\n"+other, "render", "-f", "-", "--policies", policies, "--require-namespace")
	if code != exitUsage || !strings.Contains(stderr, "stdin:1: Pod/api: nothing says its namespace: ") || strings.Contains(stderr, "ConfigMap") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	for _, input := range []string{other, strings.Replace(asking, `"name": "api",`, `"name": "api", "namespace": "shop",`, 1)} {
		if _, _, stderr := plugin(t, input, "render", "-f", "-", "--policies", policies, "--require-namespace"); strings.Contains(stderr, "nothing says") {
			t.Error(stderr)
		}
	}
}

// TestRenderWritesVerdicts to a file, besides, for whoever is not shown stderr.
func TestRenderWritesVerdicts(t *testing.T) {
	policies, name := write(t, "orders.yaml", ordersPolicy), filepath.Join(t.TempDir(), "verdicts.txt")
	_, _, stderr := plugin(t, asking+"\n---\na: [\n", "render", "-f", "-", "--policies", policies, "--verdicts", name)
	text, err := os.ReadFile(name)
	if err != nil || string(text) != stderr || !strings.Contains(stderr, "deny, UnknownPolicy") || !strings.Contains(stderr, "stdin:3: is no YAML") {
		t.Errorf("%v: %q, want %q", err, text, stderr)
	}
	plugin(t, asking, "render", "-f", "-", "--policies", "nope.yaml", "--verdicts", name)
	if text, err := os.ReadFile(name); err != nil || !strings.HasPrefix(string(text), "error: ") || !strings.Contains(string(text), "nope.yaml") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestRenderOfInvalidPolicies: offline there are no Events to look into.
func TestRenderOfInvalidPolicies(t *testing.T) {
	configMap := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: p, labels: {bucket-access.io/policies: 'true'}}\ndata:\n  nope: 'bucket: X'\n  'no:pe': ''\n"
	policies := write(t, "p.yaml", configMap)
	code, _, stderr := plugin(t, asking, "render", "-n", "default", "-f", "-", "--policies", policies)
	for _, want := range []string{
		`warning: p: data key "no:pe" defines no policy: `, "data[nope].region: Required value", "for the lines: kubectl bucket-access validate -f " + policies,
	} {
		if code != exitFindings || !strings.Contains(stderr, want) || strings.Contains(stderr, "Events") {
			t.Errorf("exit code %d, want %q: %s", code, want, stderr)
		}
	}
	policies = write(t, "orders.yaml", ordersPolicy+"reader: {inject: true}\n")
	pod := strings.NewReplacer("nope", "orders", `"spec": {`, `"spec": {"serviceAccountName": "api-sa", `).Replace(asking)
	if _, _, stderr := plugin(t, pod, "render", "-n", "default", "-f", "-", "--policies", policies); !strings.Contains(stderr, "is not added: rendered without --reader-image") {
		t.Error(stderr)
	}
}

// TestRenderSaysWhatItWritesAnew: comments of flow mappings are lost, JSON has none.
func TestRenderSaysWhatItWritesAnew(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	pod := strings.NewReplacer("nope", "orders", `"spec": {`, `"spec": {"serviceAccountName": "api-sa", `).Replace(asking)
	_, stdout, stderr := plugin(t, pod, "render", "-n", "default", "-f", "-", "--policies", policies)
	if !json.Valid([]byte(stdout)) || strings.Contains(stderr, "anew") {
		t.Errorf("%s%s", stdout, stderr)
	}
	if _, _, stderr := plugin(t, pod+" # the API\n", "render", "-n", "default", "-f", "-", "--policies", policies); !strings.Contains(stderr, "stdin:1: the document is written anew") {
		t.Error(stderr)
	}
}
