package suite

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// checkPod is the Pod of the chart's test, created with all that comes with it.
func checkPod(t *testing.T, l *lab.Lab) *corev1.Pod {
	t.Helper()
	hooks, err := l.Helm(testContext(t), 4, "template", "release", chart, "-n", lab.Namespace, "--kube-version", "1.37",
		"--show-only", "templates/tests/check.yaml",
		"--set-json", `policies={"faults": {"bucket": "orders-data", "region": "eu-west-1", "roleARN": "any", "subjects": []}}`)
	must(t, err)
	if _, said, err := l.Kubectl(testContext(t), hooks, "create", "--validate=strict", "-f", "-"); err != nil || said != "" {
		t.Fatalf("the test's objects: %v: %s", err, said)
	}
	var p corev1.Pod
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: lab.Name + "-test"}, &p))
	return &p
}

// runner runs what the container runs, with the access of its ServiceAccount, and
// returns what it says and its exit code. There is one try unless flags say otherwise.
func runner(t *testing.T, l *lab.Lab, p *corev1.Pod) func(flags ...string) (string, int) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Spec.ServiceAccountName}}
	token := &authenticationv1.TokenRequest{}
	must(t, l.Client.SubResource("token").Create(t.Context(), account, token))
	config, err := clientcmd.LoadFromFile(filepath.Join(l.Dir, "webhook.kubeconfig"))
	must(t, err)
	for _, user := range config.AuthInfos {
		user.Token = token.Status.Token
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(*config, path))
	return func(flags ...string) (string, int) {
		t.Helper()
		var said bytes.Buffer
		command := exec.CommandContext(testContext(t), filepath.Join(l.Repository, "bin", lab.Name),
			append(append(append([]string{}, p.Spec.Containers[0].Args...), "--kubeconfig="+path, "--timeout=0"), flags...)...)
		command.Stdout, command.Stderr = &said, &said
		var exit *exec.ExitError
		if err := command.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return said.String(), command.ProcessState.ExitCode()
	}
}

// TestHelmTest runs what helm test runs: it passes where all is well, and says what is
// wrong where something is.
func TestHelmTest(t *testing.T) {
	l, _, _ := faultLab(t)
	for _, name := range []string{"one", "two"} {
		_, err := l.StartReplica(testContext(t), name)
		must(t, err)
	}
	check := runner(t, l, checkPod(t, l))
	wantFailure := func(sentences ...string) {
		t.Helper()
		said, code := "", 0
		defer func() { t.Log(said) }()
		eventually(t, "exit code 1 with "+strings.Join(sentences, " and "), func() bool {
			said, code = check()
			for _, sentence := range sentences {
				if !strings.Contains(said, sentence) {
					return false
				}
			}
			return code == 1 && strings.Contains(said, "what to do: ")
		})
	}
	wantWell := func() {
		t.Helper()
		if said, code := check("--timeout=10s"); code != 0 || strings.Contains(said, "FAIL") || !strings.Contains(said, "All 7 checks passed.") {
			t.Fatalf("code %d: %s", code, said)
		}
	}
	wantWell()
	var pods corev1.PodList
	must(t, l.Client.List(t.Context(), &pods, client.InNamespace("default")))
	if len(pods.Items) > 0 {
		t.Errorf("Pods are left: %v", pods.Items)
	}

	// A policy that is asked for and is not there.
	said, code := check("--policies=faults,missing")
	if code != 1 || !strings.Contains(said, "OK    policy faults is in force\nFAIL  policy missing is in force: ") {
		t.Errorf("code %d: %s", code, said)
	}
	// A namespace that is left alone.
	if said, code := check("--namespace=kube-system"); code != 1 || !strings.Contains(said, "it leaves the namespace kube-system alone") {
		t.Errorf("code %d: %s", code, said)
	}

	// The mutating configuration is gone; then the backstop too.
	mutating := &registrationv1.MutatingWebhookConfiguration{}
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, mutating))
	must(t, l.Client.Delete(t.Context(), mutating))
	wantFailure("FAIL  MutatingWebhookConfiguration bucket-access-webhook: it does not exist",
		"the API server did not call the webhook, and a backstop refused the Pod")
	binding := &registrationv1.ValidatingAdmissionPolicyBinding{}
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name + "-pods"}, binding))
	must(t, l.Client.Delete(t.Context(), binding))
	wantFailure("it was let through though it asks for a policy that does not exist",
		"FAIL  ValidatingAdmissionPolicyBinding bucket-access-webhook-pods: it does not exist")
	for _, object := range []client.Object{mutating, binding} {
		object.SetResourceVersion("")
		object.SetUID("")
		must(t, l.Client.Create(t.Context(), object))
	}
	wantWell()

	// A caBundle of another CA, which the webhook can't mend, and one that is missing.
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}
	must(t, edit(testContext(t), l, role, func(role *rbacv1.ClusterRole) { role.Rules = role.Rules[:2] }))
	setBundle := func(bundle []byte) {
		t.Helper()
		must(t, (&stage{Lab: l}).setBundles(testContext(t), &registrationv1.MutatingWebhookConfiguration{}, bundle))
	}
	setBundle(l.Config.CAData)
	wantFailure("the API server does not trust the webhook's certificate", "not the CA that Pods' entry has, in policies.bucket-access.io")
	setBundle(nil)
	wantFailure("no caBundle in pods.bucket-access.io, namespaced-pods.bucket-access.io, ")
	setBundle(mutating.Webhooks[0].ClientConfig.CABundle)
	wantWell()

	for _, r := range l.Replicas() {
		r.Kill()
	}
	wantFailure("no replica answers: ", "kubectl -n bucket-access-system get pods,endpointslices")
}
