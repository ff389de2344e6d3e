package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// shopChart is a chart of a user, whose Deployment asks for a policy.
var shopChart = map[string]string{
	"Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
	"templates/all.yaml": "# the shop's\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec:\n  template:\n    metadata:\n      labels: {bucket-access.io/policy: orders}\n" +
		"    spec:\n      serviceAccountName: api-sa\n      containers:\n        # the API\n        - name: app\n          image: app:v1\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n" +
		"data: {a:   '1'}   # as it is\n",
}

// TestPostRenderer: Helm 4 installs the plugin, and a chart goes through it: what asks is
// injected, the rest stays; what the webhook would refuse fails the release.
func TestPostRenderer(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "bin", "kubectl-bucket_access")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/kubectl-bucket_access").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, text := range shopChart {
		path := filepath.Join(dir, "chart", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	policies, err := filepath.Abs("../../manifests/samples/policy-orders.yaml")
	if err != nil {
		t.Fatal(err)
	}
	helm := func(args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "helm"), args...)
		command.Env = []string{"HOME=" + dir, "PATH=" + filepath.Dir(program) + ":" + os.Getenv("PATH"), "KUBECONFIG=/dev/null"}
		out, err := command.CombinedOutput()
		return string(out), err
	}
	if out, err := helm("plugin", "install", "../../plugins/helm-post-renderer"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	render := func(namespace string) (string, error) {
		return helm("template", "shop", filepath.Join(dir, "chart"), "--namespace", namespace, "--post-renderer", "bucket-access",
			"--post-renderer-args", "--policies="+policies, "--post-renderer-args", "--namespace="+namespace)
	}
	out, err := render("shop") // the sample lists every ServiceAccount of shop
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"bucket-access.io/injected: orders", "value: arn:aws:iam::222222222222:role/s3-reader-role", "# the shop's", "# the API\n", "data: {a: '1'} # as it is", // Helm itself encodes all anew
	} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %s:\n%s", want, out)
		}
	}
	verdicts := filepath.Join(dir, "verdicts.txt")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--namespace=elsewhere"}, "Deployment/api in elsewhere: deny, SubjectNotListed"},
		{nil, "Deployment/api: nothing says its namespace: write metadata.namespace, or give --namespace"}, // Helm tells its own to nobody
	} {
		args := []string{"template", "shop", filepath.Join(dir, "chart"), "--namespace", "elsewhere", "--post-renderer", "bucket-access"}
		for _, arg := range append(test.args, "--policies="+policies, "--verdicts="+verdicts) {
			args = append(args, "--post-renderer-args", arg)
		}
		out, err := helm(args...)
		said, _ := os.ReadFile(verdicts)
		if err == nil || !strings.Contains(string(said), test.want) {
			t.Errorf("%v: %s, and the verdicts are %s", err, out, said)
		}
	}
	if out, err := render("elsewhere"); err == nil || !strings.Contains(out, `plugin "bucket-access" exited with error`) {
		t.Errorf("a Deployment whose Pods are refused goes through: %v: %s", err, out)
	}
}
