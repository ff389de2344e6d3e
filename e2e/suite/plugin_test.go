package suite

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// plugin runs kubectl bucket-access as kubectl finds it, on the PATH.
func plugin(t *testing.T, input string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	command := exec.CommandContext(testContext(t), filepath.Join(cluster.Assets(), "kubectl"), append([]string{"bucket-access"}, args...)...)
	command.Env = append(os.Environ(), append(env, "KUBECONFIG="+cluster.Kubeconfig, "PATH="+filepath.Join(cluster.Repository, "bin")+":"+os.Getenv("PATH"))...)
	var out, errs bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &errs
	err := command.Run()
	if command.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

// asInjected is what of a Pod the webhook writes, without what API servers add.
func asInjected(p *corev1.Pod) map[string]any {
	type container struct {
		Name   string
		Env    []corev1.EnvVar
		Mounts []corev1.VolumeMount
	}
	var containers []container
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		one := container{Name: c.Name, Env: c.Env}
		for _, mount := range c.VolumeMounts {
			if !strings.HasPrefix(mount.Name, "kube-api-access-") {
				one.Mounts = append(one.Mounts, mount)
			}
		}
		containers = append(containers, one)
	}
	var volumes []corev1.Volume
	for _, volume := range p.Spec.Volumes {
		if volume.Projected != nil {
			volume.Projected.DefaultMode = nil
		}
		if !strings.HasPrefix(volume.Name, "kube-api-access-") {
			volumes = append(volumes, volume)
		}
	}
	return map[string]any{"labels": p.Labels, "annotations": p.Annotations, "containers": containers, "volumes": volumes}
}

// TestRenderIsTheLiveWebhook: what render --from-cluster makes of a Pod is what the API
// server answers for it, and what it refuses is refused with the same sentence.
func TestRenderIsTheLiveWebhook(t *testing.T) {
	newPolicy(t, cluster, "rendered", subject("*", "api-sa"))
	ask := label("bucket-access.io/policy", "rendered")
	for name, test := range map[string]struct {
		namespace map[string]string
		edits     []func(*corev1.Pod)
	}{
		"by the Pod":            {nil, []func(*corev1.Pod){ask}},
		"by the Namespace":      {map[string]string{"bucket-access.io/policy": "rendered"}, nil},
		"nobody asks":           {nil, nil},
		"opted out":             {map[string]string{"bucket-access.io/policy": "rendered"}, []func(*corev1.Pod){label("bucket-access.io/policy", "none")}},
		"own variables":         {nil, []func(*corev1.Pod){ask, env("AWS_REGION", "us-east-1"), env("A", "b")}},
		"another lifetime":      {nil, []func(*corev1.Pod){ask, annotation("eks.amazonaws.com/token-expiration", "7200")}},
		"static keys":           {nil, []func(*corev1.Pod){ask, env("AWS_ACCESS_KEY_ID", "AKIA")}},
		"another account":       {nil, []func(*corev1.Pod){ask, account("default")}},
		"an unknown policy":     {nil, []func(*corev1.Pod){label("bucket-access.io/policy", "nope")}},
		"implied and unmet":     {map[string]string{"bucket-access.io/policy": "rendered"}, []func(*corev1.Pod){account("default")}},
		"a name that is no one": {nil, []func(*corev1.Pod){ask, func(p *corev1.Pod) { p.Name = "x" }}},
	} {
		t.Run(name, func(t *testing.T) {
			ns := newNamespace(t, cluster, test.namespace, "api-sa")
			text, err := yaml.Marshal(pod(ns, "app", test.edits...))
			must(t, err)
			stdout, stderr, code := plugin(t, string(text), nil, "render", "-f", "-", "--from-cluster", "-o", "json")
			live := pod(ns, "app", test.edits...)
			if err := cluster.Client.Create(testContext(t), live); err != nil {
				_, sentence, _ := strings.Cut(err.Error(), "denied the request: ")
				if code != 1 || sentence == "" || !strings.Contains(stderr, sentence) {
					t.Errorf("exit code %d: render says %q, the API server %v", code, stderr, err)
				}
				return
			}
			var rendered corev1.Pod
			must(t, json.Unmarshal([]byte(stdout), &rendered))
			if diff := cmp.Diff(asInjected(live), asInjected(&rendered)); code != 0 || diff != "" {
				t.Errorf("exit code %d, -live +rendered: %s%s", code, diff, stderr)
			}
		})
	}
}

// TestThePluginsCommandsOpenTheBucket: a person of Account B runs what trust-policy prints,
// a Pod reads its bucket, and --live and --check find nothing to say until the trust policy
// is changed; the printed command mends that, too.
func TestThePluginsCommandsOpenTheBucket(t *testing.T) {
	b, err := accountB()
	must(t, err)
	ctx := testContext(t)
	namespace := newNamespace(t, cluster, nil, "api-sa")
	p, err := cluster.ApplyPolicy(ctx, "printed", b.Document("printed-data", "printed-role", subject(namespace, "api-sa")))
	must(t, err)
	must(t, b.CreateBucket(ctx, p.Bucket, map[string]string{"config.json": "content"}))
	a := &access{b: b, policy: p, namespace: namespace}
	script := func(more ...string) string {
		t.Helper()
		stdout, stderr, code := plugin(t, "", nil, append([]string{"trust-policy", "printed", "--from-cluster", "-o", "aws-cli"}, more...)...)
		if code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		return stdout
	}
	withoutProvider(t, a) // an account has one for an issuer
	said := shell(t, b, script("--with", "provider,role,permissions,bucket-policy"))
	for _, want := range []string{"arn:aws:iam::" + lab.AccountBID + ":oidc-provider/", p.Role.String()} {
		if !strings.Contains(said, want) {
			t.Errorf("the AWS CLI does not tell of %s: %s", want, said)
		}
	}
	report, err := a.reader(t, a.pod(t, "app"), nil).Report(ctx)
	must(t, err)
	if !report.Ready {
		t.Errorf("the bucket stays shut: %s", report.Line())
	}
	env := []string{"AWS_ENDPOINT_URL_IAM=" + b.STSURL, "AWS_ACCESS_KEY_ID=account-b-root", "AWS_SECRET_ACCESS_KEY=account-b-root-secret", "AWS_REGION=us-east-1"}
	live := func() (string, int) {
		t.Helper()
		stdout, stderr, code := plugin(t, "", env, "trust-policy", "printed", "--from-cluster", "--live")
		return stdout + stderr, code
	}
	if said, code := live(); code != 0 {
		t.Errorf("exit code %d: %s", code, said)
	}
	// As the help has it.
	if said := shell(t, b, "aws iam get-role --role-name printed-role --query Role.AssumeRolePolicyDocument | kubectl bucket-access trust-policy printed --from-cluster --check -"); !strings.Contains(said, "lets in 1 subject") {
		t.Errorf("--check: %s", said)
	}
	right, err := p.TrustPolicy(cluster.Issuer)
	must(t, err)
	wrong, err := iam.ParseDocument([]byte(strings.ReplaceAll(string(right.JSON()), ":api-sa", ":other")))
	must(t, err)
	must(t, b.SetTrust(ctx, p, wrong))
	if said, code := live(); code != 1 || !strings.Contains(said, "is refused") || !strings.Contains(said, ":other") {
		t.Errorf("exit code %d: %s", code, said)
	}
	shell(t, b, script()) // all of it again: what is there is kept or mended
	shell(t, b, script("--with", "permissions"))
	if said, code := live(); code != 0 {
		t.Errorf("not mended: exit code %d: %s", code, said)
	}
}

// TestThePluginCompletesNames of what is in the cluster.
func TestThePluginCompletesNames(t *testing.T) {
	namespace := newNamespace(t, cluster, nil, "completed-sa")
	newPolicy(t, cluster, "completed", subject(namespace, "completed-sa"))
	for _, test := range []struct {
		words []string
		want  string
	}{
		{[]string{"status", ""}, "completed"}, {[]string{"trust-policy", ""}, "completed"}, {[]string{"doctor", "comp"}, "completed"},
		{[]string{"doctor", "-n", namespace, "sa/"}, "sa/completed-sa"}, {[]string{"doctor", "ns/"}, "ns/" + namespace},
	} {
		stdout, stderr, code := plugin(t, "", nil, append([]string{"__complete"}, test.words...)...)
		if code != 0 || !slices.Contains(strings.Fields(stdout), test.want) {
			t.Errorf("%q: exit code %d, lacks %s: %s%s", test.words, code, test.want, stdout, stderr)
		}
	}
}
