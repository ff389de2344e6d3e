package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// ordersPolicy is the policy of the golden Pods.
const ordersPolicy = `
apiVersion: bucket-access.io/v1alpha1
kind: BucketAccessPolicy
bucket: orders-data
region: eu-west-1
roleARN: arn:aws:iam::222222222222:role/s3-reader-role
subjects:
- {namespace: default, serviceAccount: api-sa}
- {namespace: default, serviceAccount: default}
- {namespace: payments-secret-team, serviceAccount: ledger}
`

// golden is one of the golden Pods of pkg/admission and what its handler answers.
type golden struct {
	Entry          string            `json:"entry"`
	Policy         string            `json:"policy"`
	NamespaceLabel string            `json:"namespaceLabel"`
	ServiceAccount map[string]string `json:"serviceAccount"`
	AccountLabel   string            `json:"accountLabel"`
	Region         string            `json:"region"`
	Object         json.RawMessage   `json:"object"`

	want struct {
		Allowed  bool            `json:"allowed"`
		Message  string          `json:"message"`
		Warnings []string        `json:"warnings"`
		Audit    string          `json:"audit"`
		Patch    json.RawMessage `json:"patch"`
		Object   json.RawMessage `json:"object"`
	}
}

func goldens(t *testing.T) map[string]*golden {
	t.Helper()
	inputs, err := filepath.Glob("../admission/testdata/golden/*.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*golden{}
	for _, input := range inputs {
		g := &golden{}
		decodeFile(t, input, g)
		decodeFile(t, strings.TrimSuffix(input, ".in.yaml")+".out.yaml", &g.want)
		if g.Entry != "ephemeral-containers" { // no creation: kubectl debug on a Pod that runs
			all[strings.TrimSuffix(filepath.Base(input), ".in.yaml")] = g
		}
	}
	if len(all) < 40 {
		t.Fatalf("only %d golden Pods", len(all))
	}
	return all
}

func decodeFile(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// write makes a file of the test's and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// args are the command line that sets up what stands around the golden Pod.
func (g *golden) args(t *testing.T) []string {
	t.Helper()
	account := map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{
		"name": "api-sa", "namespace": "default", "annotations": g.ServiceAccount, "labels": map[string]string{},
	}}
	if g.AccountLabel != "" {
		account["metadata"].(map[string]any)["labels"] = map[string]string{"bucket-access.io/policy": g.AccountLabel}
	}
	text, err := yaml.Marshal(account)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"render", "-f", "-", "--policies", write(t, "orders", ordersPolicy+g.Policy), "--service-account", write(t, "account.yaml", string(text)),
		"--reader-image", "registry.example.com/bucket-access-reader:v1", "--cluster-region", g.Region,
		"--issuer", "https://oidc.eks.eu-central-1.amazonaws.com/id/X"}
	if g.NamespaceLabel != "" {
		args = append(args, "--namespace-labels", "bucket-access.io/policy="+g.NamespaceLabel)
	}
	return args
}

// readerHash is over the sidecar's JSON, in which the handler's tests order the resources
// by hand.
var readerHash = regexp.MustCompile(`hash\\":\\"[0-9a-f]{16}\\"`)

func equalJSON(t *testing.T, what string, want, got []byte) {
	t.Helper()
	want, got = readerHash.ReplaceAll(want, nil), readerHash.ReplaceAll(got, nil)
	var a, b any
	if err := json.Unmarshal(want, &a); err != nil {
		t.Fatalf("%s: %v: %s", what, err, want)
	}
	if err := json.Unmarshal(got, &b); err != nil {
		t.Fatalf("%s: %v: %s", what, err, got)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%s: %s", what, cmp.Diff(a, b))
	}
}

// TestRenderIsTheWebhook: for each golden Pod render answers what the handler does: the
// object, the sentences, the patch.
func TestRenderIsTheWebhook(t *testing.T) {
	for name, g := range goldens(t) {
		t.Run(name, func(t *testing.T) {
			object, err := yaml.JSONToYAML(g.Object)
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := plugin(t, string(object), append(g.args(t), "-o", "yaml")...)
			if want := map[bool]int{true: exitFine, false: exitFindings}[g.want.Allowed]; code != want {
				t.Fatalf("exit code %d, want %d: %s", code, want, stderr)
			}
			got, err := yaml.YAMLToJSON([]byte(stdout))
			if err != nil {
				t.Fatal(err)
			}
			want := g.want.Object
			if !g.want.Allowed {
				want = g.Object
			}
			equalJSON(t, "object", want, got)
			for _, sentence := range append(g.want.Warnings, g.want.Message) {
				if !strings.Contains(stderr, sentence) {
					t.Errorf("stderr lacks %q:\n%s", sentence, stderr)
				}
			}
			_, stdout, _ = plugin(t, string(g.Object), append(g.args(t), "-o", "patch")...)
			var verdicts []verdict
			if err := json.Unmarshal([]byte(stdout), &verdicts); err != nil || len(verdicts) != 1 {
				t.Fatalf("%v: %s", err, stdout)
			}
			v := verdicts[0]
			if audit := strings.TrimSuffix(string(v.Verdict)+"/"+string(v.Reason)+" "+v.Policy+" "+string(v.Source), "  "); !strings.HasPrefix(g.want.Audit, audit) {
				t.Errorf("verdict %q, want %q", audit, g.want.Audit)
			}
			if len(g.want.Patch) > 0 {
				equalJSON(t, "patch", g.want.Patch, v.Patch)
			} else if string(v.Patch) != "[]" {
				t.Errorf("patch %s", v.Patch)
			}
			_, stdout, _ = plugin(t, string(g.Object), append(g.args(t), "-o", "json")...)
			equalJSON(t, "JSON", want, []byte(stdout))
		})
	}
}

// TestRenderOfWorkloads: the template of every kind becomes what a Pod of it becomes.
func TestRenderOfWorkloads(t *testing.T) {
	pod := `{metadata: {labels: {bucket-access.io/policy: orders}}, spec: {serviceAccountName: api-sa, containers: [{name: app, image: app}]}}`
	for kind, spec := range map[string]string{
		"apps/v1 Deployment": "{template: POD}", "apps/v1 StatefulSet": "{template: POD}", "apps/v1 DaemonSet": "{template: POD}", "apps/v1 ReplicaSet": "{template: POD}",
		"v1 ReplicationController": "{template: POD}", "batch/v1 Job": "{template: POD}", "batch/v1 CronJob": "{jobTemplate: {spec: {template: POD}}}",
	} {
		t.Run(kind, func(t *testing.T) {
			version, name, _ := strings.Cut(kind, " ")
			text := "apiVersion: " + version + "\nkind: " + name + "\nmetadata: {name: api}\nspec: " + strings.ReplaceAll(spec, "POD", pod) + "\n"
			policies := write(t, "orders.yaml", ordersPolicy)
			code, stdout, stderr := plugin(t, text, "render", "-n", "default", "-f", "-", "--policies", policies)
			if code != exitFine || !strings.Contains(stderr, name+`/api in default: inject, Injected: policy "orders" by the label on the Pod`) {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			for _, want := range []string{"bucket-access.io/injected: orders", "AWS_ROLE_ARN", "aws-iam-token", "bucket-access.io/status"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("lacks %s:\n%s", want, stdout)
				}
			}
			code, second, _ := plugin(t, stdout, "render", "-f", "-", "--policies", policies)
			if code != exitFine || second != stdout {
				t.Errorf("rendered twice it differs: %s", cmp.Diff(stdout, second))
			}
			misplaced := strings.Replace(strings.Replace(text, "metadata: {labels: {bucket-access.io/policy: orders}}, ", "", 1),
				"{name: api}", "{name: api, labels: {bucket-access.io/policy: orders}}", 1)
			code, stdout, stderr = plugin(t, misplaced, "render", "-f", "-", "--policies", policies)
			if code != exitFine || stdout != misplaced || !strings.Contains(stderr, "on a "+name+"'s own metadata does nothing: its Pods are made from ") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
			refused := strings.Replace(text, "api-sa", "other", 1)
			if code, stdout, stderr := plugin(t, refused, "render", "-f", "-", "--policies", policies); code != exitFindings || stdout != refused ||
				!strings.Contains(stderr, "does not list system:serviceaccount:default:other") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
			// Asked for by the Namespace, and without any metadata.
			bare := strings.Replace(text, "metadata: {labels: {bucket-access.io/policy: orders}}, ", "", 1)
			code, stdout, stderr = plugin(t, bare, "render", "-f", "-", "--policies", policies, "--namespace-labels", "bucket-access.io/policy=orders")
			if code != exitFine || !strings.Contains(stdout, "bucket-access.io/injected: orders") {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
}

// stream is what a chart may render to: comments, a CRD, nothing, an injected Pod.
const stream = `---
# Source: shop/templates/crd.yaml
apiVersion: example.com/v1
kind: Thing
spec:   {a:   [1,2]}   # as it was


---
# Source: shop/templates/empty.yaml
---
# Source: shop/templates/pod.yaml
apiVersion: v1
kind: Pod
metadata:
  name: api # the API
  labels:
    bucket-access.io/policy: "orders"

spec:
  serviceAccountName: api-sa
  containers:
    # the only one
    - image: 'app:v1'
      name: app
...
`

// TestRenderKeepsTheRest: all lines of the input are in the output, in order; what is
// added are lines.
func TestRenderKeepsTheRest(t *testing.T) {
	code, stdout, stderr := plugin(t, stream, "render", "-f", "-", "--policies", write(t, "orders.yaml", ordersPolicy))
	if code != exitFine {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	rest := strings.Split(stdout, "\n")
	for _, line := range strings.Split(stream, "\n") {
		found := false
		for !found && len(rest) > 0 {
			found, rest = rest[0] == line, rest[1:]
		}
		if !found {
			t.Fatalf("line %q is lost or moved:\n%s", line, stdout)
		}
	}
	if before, _, _ := strings.Cut(stream, "# Source: shop/templates/pod.yaml"); !strings.HasPrefix(stdout, before) {
		t.Errorf("what comes before is changed:\n%s", stdout)
	}
}

func TestRenderSeesWhatStandsBeside(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: api}\nspec: {serviceAccountName: api-sa, containers: [{name: app, image: app}]}\n"
	account := "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: api-sa, labels: {bucket-access.io/policy: orders}}\n"
	namespace := "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {bucket-access.io/policy: orders}}\n"
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                       {pod, "Pod/api in default: skip, NotRequested"},
		"a ServiceAccount behind it":    {pod + "---\n" + account, `Pod/api in default: inject, Injected: policy "orders" by the label on the ServiceAccount`},
		"a Namespace before it":         {namespace + "---\n" + pod, `by the label on the Namespace`},
		"all in a List":                 {"apiVersion: v1\nkind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimSuffix(account, "\n"), "\n", "\n  ") + "\n- " + strings.ReplaceAll(pod, "\n", "\n  "), `by the label on the ServiceAccount`},
		"a Pod where nobody is asked":   {strings.Replace(pod+"---\n"+namespace, "name: api}", "name: api, namespace: kube-system, labels: {bucket-access.io/policy: nope}}", 1), "Pod/api in kube-system: left alone: the webhook does not look at namespace kube-system\n"},
		"a Pod beside the webhook":      {strings.Replace(pod, "name: api}", "name: api, namespace: bucket-access-system}", 1), "left alone: the webhook does not look at namespace bucket-access-system\n"},
		"an unknown policy":             {strings.Replace(pod, "name: api}", "name: api, labels: {bucket-access.io/policy: nope}}", 1), "deny, UnknownPolicy"},
		"the ServiceAccount is changed": {account, `ServiceAccount/api-sa in default: inject`},
	} {
		t.Run(name, func(t *testing.T) {
			_, stdout, stderr := plugin(t, test.text, "render", "-n", "default", "-f", "-", "--policies", policies)
			if !strings.Contains(stderr, test.want) || strings.Contains(test.want, "left alone") && stdout != test.text {
				t.Errorf("want %q:\n%s%s", test.want, stderr, stdout)
			}
			if strings.Contains(test.want, "ServiceAccount/") && !strings.Contains(stdout, "eks.amazonaws.com/role-arn") {
				t.Errorf("%s", stdout)
			}
		})
	}
}

func TestRenderSaysWhatItCannotDo(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	for name, test := range map[string]struct {
		input string
		args  []string
		want  string
	}{
		"no file":           {"", nil, "--filename is required"},
		"no policies":       {"", []string{"-f", "-"}, "give --policies FILE, or --from-cluster"},
		"no such file":      {"", []string{"-f", "nope.yaml", "--policies", policies}, "nope.yaml: no such file"},
		"no such policies":  {"", []string{"-f", "-", "--policies", "nope.yaml"}, "nope.yaml: no such file"},
		"no policy in it":   {"", []string{"-f", "-", "--policies", write(t, "x.yaml", "a: 1\n")}, "no policy: want ConfigMaps"},
		"an unknown output": {"", []string{"-f", "-", "-o", "xml"}, `--output is "xml"`},
		"no YAML":           {"a: [\n", []string{"-f", "-", "--policies", policies}, "stdin:1: "},
		"no template":       {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n", []string{"-f", "-", "--policies", policies}, "stdin:1: Deployment/x has no spec.template"},
		"no Pod":            {"a: 1\n---\napiVersion: v1\nkind: Pod\nspec: 1\n", []string{"-f", "-", "--policies", policies}, "stdin:5: Pod/*: spec: want an object, found number"},
		"stdin twice":       {"", []string{"-f", "-", "-f", "-", "--policies", policies}, "can be read only once"},
		"an empty folder":   {"", []string{"-f", t.TempDir(), "--policies", policies}, "holds no file"},
		"a wrong quantity":  {"", []string{"-f", "-", "--policies", policies, "--reader-memory-limit", "much"}, `--reader-memory-limit is "much"`},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, stderr := plugin(t, test.input, append([]string{"render"}, test.args...)...); code != exitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
}

// TestVerdicts as a person and as a pipe see them.
func TestVerdicts(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, labels: {bucket-access.io/policy: orders}}\nspec: {serviceAccountName: SA, containers: [{name: app, image: app, env: [{name: AWS_REGION, value: us-east-1}]}]}\n---\n"
	input := strings.NewReplacer("NAME", "granted", "SA", "api-sa").Replace(pod) + strings.NewReplacer("NAME", "refused", "SA", "other").Replace(pod) +
		strings.NewReplacer("NAME", "left-alone", "SA", "api-sa", "orders", "none").Replace(pod)
	for name, width := range map[string]int{"render.pipe.txt": 0, "render.terminal.txt": 80} {
		said, code := show(t, width, input, "render", "-n", "default", "-f", "-", "--policies", write(t, "orders.yaml", ordersPolicy), "-o", "diff")
		if code != exitFindings {
			t.Errorf("exit code %d", code)
		}
		at := strings.LastIndex(said, "Pod/granted")
		goldenText(t, name, said[strings.LastIndex(said[:at], "\n")+1:])
	}
}

// TestOtherVerdicts: what is assumed, left alone, not judged or invalid, as a person and as a
// pipe see it.
func TestOtherVerdicts(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME, labels: {bucket-access.io/policy: orders}}\nspec: {serviceAccountName: api-sa, containers: [{name: app}]}\n---\n"
	input := ""
	for _, name := range []string{"assumed", "excluded, namespace: kube-system", "not-judged, namespace: shop, annotations: 3"} {
		input += strings.ReplaceAll(pod, "NAME", name)
	}
	for name, width := range map[string]int{"render-other.pipe.txt": 0, "render-other.terminal.txt": 80} {
		text, code := show(t, width, input, "render", "-f", "-", "--policies", "testdata/orders.yaml", "-o", "diff")
		if code != exitUsage || width > 0 && widest(text) > width {
			t.Errorf("exit code %d, %d columns", code, widest(text))
		}
		goldenText(t, name, text)
	}
}
