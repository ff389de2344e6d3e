package suite

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/doctor"
)

// patient is what doctor looks at, in a lab.
type patient struct {
	*lab.Lab
	kubeconfig string
	namespace  string
	env        []string
	restarts   int
}

// examine runs the built doctor and returns what it found, also as a person reads it.
func (p *patient) examine(t *testing.T, args ...string) (*doctor.Report, string) {
	t.Helper()
	args = append([]string{"doctor", "-n", p.namespace}, args...)
	said := bucketAccess(t, p.kubeconfig, p.env, append(args, "-o", "json")...)
	var report doctor.Report
	if err := json.Unmarshal([]byte(said.stdout), &report); err != nil {
		t.Fatalf("exit code %d, %v: %s%s", said.code, err, said.stdout, said.stderr)
	}
	want := 2 // it could not look
	if report.Looked {
		want = map[bool]int{true: 0, false: 1}[report.Healthy]
	}
	if said.code != want {
		t.Errorf("exit code %d, want %d", said.code, want)
	}
	shown := bucketAccess(t, p.kubeconfig, p.env, args...)
	for _, secret := range []string{"eyJ", "AKIASECRETVALUE", "account-b-root"} {
		if strings.Contains(said.stdout+said.stderr+shown.stdout+shown.stderr, secret) {
			t.Errorf("doctor shows %q", secret)
		}
	}
	return &report, shown.stdout + shown.stderr
}

// find is the check of a name.
func find(t *testing.T, report *doctor.Report, id string) doctor.Check {
	t.Helper()
	for _, check := range report.Checks {
		if check.ID == id {
			return check
		}
	}
	t.Fatalf("no check %q", id)
	return doctor.Check{}
}

// firstRed is the first check that is neither OK nor skipped.
func firstRed(report *doctor.Report) doctor.Check {
	for _, check := range report.Checks {
		if check.State == doctor.Fail || check.State == doctor.Warn {
			return check
		}
	}
	return doctor.Check{}
}

// run runs a printed command as a person who copies it does; editor is what they do in
// kubectl edit, as a sed script.
func (p *patient) run(t *testing.T, command, editor string) {
	t.Helper()
	directory := t.TempDir()
	for link, to := range map[string]string{
		"kubectl": filepath.Join(p.Repository, "bin", "kube", "kubectl"), "kubectl-bucket_access": filepath.Join(p.Repository, "bin", "kubectl-bucket_access"),
	} {
		must(t, os.Symlink(to, filepath.Join(directory, link)))
	}
	shell := exec.CommandContext(testContext(t), "bash", "-o", "pipefail", "-ec", command)
	shell.Dir = directory
	shell.Env = append(append(os.Environ(), "PATH="+directory+":"+os.Getenv("PATH"), "KUBECONFIG="+p.kubeconfig, "KUBE_EDITOR=sed -i -e '"+editor+"'"), p.env...)
	if said, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, said)
	}
}

// brokenLink is one fault: which check names it, by which words, and that what is
// printed mends it.
type brokenLink struct {
	name    string
	inflict func(t *testing.T, p *patient) (target []string)
	check   string
	state   doctor.State
	why     string // in the check's why
	editor  string // a sed script, where the command is kubectl edit
	mend    func(t *testing.T, p *patient)
	then    func(t *testing.T, p *patient) // after the command, before the second look
	// notes that no command mends it and the sentence must do.
	sentence string
}

func (f *brokenLink) play(t *testing.T, p *patient) {
	t.Helper()
	target := f.inflict(t, p)
	var report *doctor.Report
	var shown string
	var found doctor.Check
	eventually(t, "check "+f.check+" is "+string(f.state), func() bool {
		report, shown = p.examine(t, target...)
		found = find(t, report, f.check)
		return found.State == f.state
	})
	t.Logf("%s", shown)
	if red := firstRed(report); red.ID != f.check {
		t.Errorf("the first red link is %s: %s", red.ID, red.Why)
	}
	if !strings.Contains(found.Why, f.why) {
		t.Errorf("%q is not in why: %s", f.why, found.Why)
	}
	if !strings.Contains(strings.Join(strings.Fields(shown), " "), strings.Join(strings.Fields(found.Why), " ")) {
		t.Errorf("the table does not say why")
	}
	switch {
	case f.mend != nil && found.Command != "":
		t.Fatalf("a command is printed that mends it, and not run: %s", found.Command)
	case f.mend != nil:
		if !strings.Contains(found.Fix, f.sentence) || found.Fix == "" {
			t.Errorf("what to do: %q, want %q", found.Fix, f.sentence)
		}
		f.mend(t, p)
	case found.Command == "":
		t.Fatalf("no command mends it: %+v", found)
	default:
		p.run(t, found.Command, f.editor)
	}
	if f.then != nil {
		f.then(t, p)
	}
	eventually(t, "check "+f.check+" is green", func() bool {
		report, shown = p.examine(t, target...)
		found = find(t, report, f.check)
		return found.State == doctor.OK
	})
}

// patientLab is a lab of its own with two replicas, a policy "orders" and an injected Pod "app".
func patientLab(t *testing.T) *patient {
	t.Helper()
	l, err := start("")
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	p := &patient{Lab: l, kubeconfig: l.Kubeconfig, namespace: newNamespace(t, l, nil, "api-sa")}
	must(t, os.WriteFile(filepath.Join(l.Dir, "ca.pem"), l.Config.CAData, 0o600))
	p.env = []string{"SSL_CERT_FILE=" + filepath.Join(l.Dir, "ca.pem")} // of the issuer, as everybody knows it
	p.publish(t)
	must(t, l.Client.Create(testContext(t), policyConfigMap("orders", p.document())))
	time.Sleep(500 * time.Millisecond)
	created(t, l, pod(p.namespace, "app", label("bucket-access.io/policy", "orders")))
	return p
}

func (p *patient) document(more ...string) string {
	return policyDocument(subject(p.namespace, "api-sa"), more...)
}

func (p *patient) setPolicy(t *testing.T, document string) {
	t.Helper()
	must(t, p.Client.Update(testContext(t), policyConfigMap("orders", document)))
	time.Sleep(400 * time.Millisecond)
}

// bypass creates an object without our webhook, as when it was down.
func (p *patient) bypass(t *testing.T, do func()) {
	t.Helper()
	ctx := testContext(t)
	var mutating registrationv1.MutatingWebhookConfiguration
	must(t, p.Client.Get(ctx, client.ObjectKey{Name: lab.Name}, &mutating))
	var validating registrationv1.ValidatingWebhookConfiguration
	must(t, p.Client.Get(ctx, client.ObjectKey{Name: lab.Name}, &validating))
	must(t, p.Client.Delete(ctx, mutating.DeepCopy()))
	must(t, p.Client.Delete(ctx, validating.DeepCopy()))
	time.Sleep(1500 * time.Millisecond)
	do()
	mutating.ResourceVersion, validating.ResourceVersion, mutating.UID, validating.UID = "", "", "", ""
	must(t, p.Client.Create(ctx, &mutating))
	must(t, p.Client.Create(ctx, &validating))
	time.Sleep(1500 * time.Millisecond)
}

// TestDoctorNamesEachBrokenLink breaks one link after the other for real, reads which
// check names it, runs the command that is printed, and sees the check green.
func TestDoctorNamesEachBrokenLink(t *testing.T) {
	p := patientLab(t)
	if report, shown := p.examine(t, "pod/app"); !report.Healthy || firstRed(report).ID != "" {
		t.Fatalf("before anything is broken:\n%s", shown)
	} else {
		t.Log(shown)
	}
	t.Run("a ConfigMap that does not tell all its keys", p.unnamedKeys)
	t.Run("by another context", p.otherContext)
	t.Run("from a namespace that is left alone", p.leftAlone)
	t.Run("a Pod that was debugged", p.debugged)
	for _, f := range clusterFaults() {
		t.Run(f.name, func(t *testing.T) { f.play(t, p) })
	}
}

// otherContext: printed commands go to the cluster that was looked at, not to the one of
// the kubeconfig's current context.
func (p *patient) otherContext(t *testing.T) {
	t.Helper()
	config, err := clientcmd.LoadFromFile(p.Kubeconfig)
	must(t, err)
	config.Contexts["the lab"] = config.Contexts[config.CurrentContext]
	config.Clusters["elsewhere"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	config.Contexts["elsewhere"] = &clientcmdapi.Context{Cluster: "elsewhere", AuthInfo: config.Contexts["the lab"].AuthInfo}
	config.CurrentContext = "elsewhere"
	away := *p
	away.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	must(t, clientcmd.WriteToFile(*config, away.kubeconfig))
	ns := newNamespace(t, p.Lab, map[string]string{"bucket-access.io/policy": "ordres"})
	target := []string{"ns/" + ns, "--context", "the lab"}
	report, _ := away.examine(t, target...)
	found := find(t, report, "label")
	if !strings.Contains(found.Command, "kubectl '--context=the lab' label namespace "+ns) {
		t.Fatalf("%+v", found)
	}
	away.run(t, found.Command, "")
	if report, shown := away.examine(t, target...); !report.Healthy {
		t.Errorf("after the command:\n%s", shown)
	}
	if report, shown := away.examine(t, "ns/"+ns); report.Looked || report.Healthy || !strings.Contains(shown, "could not look") {
		t.Errorf("of the context elsewhere:\n%s", shown)
	}
	if said := bucketAccess(t, away.kubeconfig, nil, "status"); said.code != 2 || strings.Contains(said.stderr, "memcache.go") || strings.Count(said.stderr, "\n") != 1 {
		t.Errorf("status of the context elsewhere: exit code %d, %s", said.code, said.stderr)
	}
}

// leftAlone: where the webhook leaves the context's namespace alone, a Pod is tried in another.
func (p *patient) leftAlone(t *testing.T) {
	t.Helper()
	ctx := testContext(t)
	var mutating registrationv1.MutatingWebhookConfiguration
	must(t, p.Client.Get(ctx, client.ObjectKey{Name: lab.Name}, &mutating))
	alone := newNamespace(t, p.Lab, nil)
	changed := mutating.DeepCopy()
	for i := range changed.Webhooks {
		if selector := changed.Webhooks[i].NamespaceSelector; selector != nil {
			for n := range selector.MatchExpressions {
				if of := &selector.MatchExpressions[n]; of.Operator == metav1.LabelSelectorOpNotIn {
					of.Values = append(of.Values, alone, "default")
				}
			}
		}
	}
	must(t, p.Client.Update(ctx, changed))
	defer reinstall(t, p)
	there := *p
	there.namespace = alone
	report, shown := there.examine(t)
	if call := find(t, report, "call"); call.State != doctor.OK || strings.Contains(call.Why, alone) {
		t.Errorf("%+v\n%s", call, shown)
	}
}

// debugged: kubectl debug adds containers that no Pod may be made with.
func (p *patient) debugged(t *testing.T) {
	t.Helper()
	created(t, p.Lab, pod(p.namespace, "debugged", label("bucket-access.io/policy", "none")))
	_, said, err := p.Kubectl(testContext(t), "", "-n", p.namespace, "debug", "debugged", "--image=busybox", "--profile=general", "--attach=false", "--container=look")
	must(t, err)
	t.Log(said)
	report, _ := p.examine(t, "pod/debugged")
	found := find(t, report, "label")
	if found.State != doctor.Warn || !strings.Contains(found.Command, "ephemeralContainers") {
		t.Fatalf("%+v", found)
	}
	p.run(t, found.Command, "")
	var made corev1.Pod
	must(t, p.Client.Get(testContext(t), client.ObjectKey{Namespace: p.namespace, Name: "debugged"}, &made))
	if _, declines := made.Labels["bucket-access.io/policy"]; declines || len(made.Spec.EphemeralContainers) > 0 {
		t.Errorf("%v, %v", made.Labels, made.Spec.EphemeralContainers)
	}
	p.kubectl(t, "-n", p.namespace, "delete", "pod", "debugged", "--force")
}

// unnamedKeys: with managedFields removed, or removed and written anew by somebody else, it is
// not known what the Pod gets.
func (p *patient) unnamedKeys(t *testing.T) {
	t.Helper()
	defer p.kubectl(t, "-n", p.namespace, "delete", "pod", "from-stripped", "--now") // the policy will change
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "stripped"}, Data: map[string]string{"AWS_PROFILE": "AKIASECRETVALUE"}}
	must(t, p.Client.Create(testContext(t), settings))
	created(t, p.Lab, pod(p.namespace, "from-stripped", label("bucket-access.io/policy", "orders"), func(q *corev1.Pod) {
		q.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "stripped"}}}}
	}))
	credentials := func() doctor.Check {
		report, _ := p.examine(t, "pod/from-stripped")
		return find(t, report, "credentials")
	}
	if found := credentials(); found.State != doctor.Fail {
		t.Errorf("%+v", found)
	}
	settings.ManagedFields = []metav1.ManagedFieldsEntry{{}} // which removes them all
	must(t, p.Client.Update(testContext(t), settings))
	const want = "configmap stripped, from which container app takes variables, does not tell the names of all its keys"
	if found := credentials(); found.State != doctor.Skipped || !strings.Contains(found.Why, want) {
		t.Errorf("%+v", found)
	}
	p.kubectl(t, "-n", p.namespace, "patch", "configmap", "stripped", "-p", `{"data":{"LOG_LEVEL":"debug"}}`)
	if found := credentials(); found.State != doctor.Skipped || !strings.Contains(found.Why, want) {
		t.Errorf("%+v", found)
	}
	p.kubectl(t, "-n", p.namespace, "patch", "configmap", "stripped", "--type=merge", "-p", `{"data":{"AWS_PROFILE":null,"LOG_LEVEL":null}}`)
	if found := credentials(); found.State != doctor.OK {
		t.Errorf("of an empty one: %+v", found)
	}
}

func clusterFaults() []brokenLink {
	asks := label("bucket-access.io/policy", "orders")
	onPod := func(name string, edits ...func(*corev1.Pod)) func(*testing.T, *patient) []string {
		return func(t *testing.T, p *patient) []string {
			t.Helper()
			created(t, p.Lab, pod(p.namespace, name, edits...))
			return []string{"pod/" + name}
		}
	}
	return []brokenLink{
		{name: "nothing asks", inflict: onPod("unlabelled"), check: "label", state: doctor.Fail, why: "carries the label bucket-access.io/policy"},
		{name: "a Pod from before the label", inflict: func(t *testing.T, p *patient) []string { // the label is there now
			t.Helper()
			return []string{"pod/unlabelled"}
		}, check: "pod", state: doctor.Fail, why: "is not injected"},
		{name: "an outdated Pod", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.setPolicy(t, p.document("prefix: new/"))
			return []string{"pod/app"}
		}, check: "pod", state: doctor.Fail, why: `prefix "" instead of "new/"`},
		{name: "an invalid policy", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.bypass(t, func() { p.setPolicy(t, p.document("prefix: new/", "bukket: x")) })
			return []string{"orders"}
		}, check: "policies", state: doctor.Fail, why: "data[orders].bukket", editor: "/bukket/d"},
		{name: "an unknown policy on the Namespace", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			ns := newNamespace(t, p.Lab, map[string]string{"bucket-access.io/policy": "ordres"})
			return []string{"ns/" + ns}
		}, check: "label", state: doctor.Fail, why: `names policy "ordres", which does not exist`},
		{name: "an unknown policy on the ServiceAccount", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.bypass(t, func() {
				must(t, p.Client.Create(testContext(t), labelledAccount(p.namespace, "typo", "odrers", nil)))
			})
			p.setPolicy(t, policyDocument(subject(p.namespace, "api-sa")+", "+subject(p.namespace, "typo"), "prefix: new/"))
			return []string{"sa/typo"}
		}, check: "label", state: doctor.Fail, why: `names policy "odrers", which does not exist`},
		{name: "a subject that is not listed", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.bypass(t, func() {
				must(t, p.Client.Create(testContext(t), labelledAccount(p.namespace, "worker", "orders", nil)))
			})
			return []string{"sa/worker"}
		}, check: "label", state: doctor.Fail, why: `policy "orders" does not list`, editor: `s/serviceAccount: "typo"/serviceAccount: "worker"/`},
		{name: "another issuer in the policy", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "-n", p.namespace, "delete", "pod", "unlabelled", "--force") // it is outdated by now
			p.setPolicy(t, policyDocument(subject(p.namespace, "api-sa")+", "+subject(p.namespace, "worker"), "prefix: new/", "issuer: https://other.example.com"))
			return []string{"orders"}
		}, check: "issuer", state: doctor.Fail, why: "says https://other.example.com", editor: "/issuer:/d"},
		{name: "another role on the ServiceAccount", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.bypass(t, func() {
				p.kubectl(t, "-n", p.namespace, "annotate", "--overwrite", "serviceaccount", "worker", "eks.amazonaws.com/role-arn="+roleA)
			})
			return []string{"sa/worker"}
		}, check: "serviceaccount", state: doctor.Fail, why: "eks.amazonaws.com/role-arn is"},
		{name: "a ServiceAccount that is gone", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			created(t, p.Lab, pod(p.namespace, "orphan", asks, account("worker")))
			p.kubectl(t, "-n", p.namespace, "delete", "serviceaccount", "worker")
			return []string{"pod/orphan"}
		}, check: "label", state: doctor.Fail, why: "worker does not exist"},
		{name: "static keys from a Secret", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			must(t, p.Client.Create(testContext(t), &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "keys"},
				StringData: map[string]string{"ACCESS_KEY_ID": "AKIASECRETVALUE", "OTHER": "AKIASECRETVALUE"},
			}))
			p.deploy(t, "from-secret", asks, func(q *corev1.Pod) {
				q.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{Prefix: "AWS_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}}}
			})
			return []string{"pod/from-secret-6d5f7-0"}
		}, check: "credentials", state: doctor.Fail, why: "container app takes AWS_ACCESS_KEY_ID from secret keys (envFrom)",
			editor: `s/^\( *\)- envFrom:/\1- env: [{name: AWS_ACCESS_KEY_ID, value: ""}]\n\1  envFrom:/`, // empty counts before envFrom
			then:   func(t *testing.T, p *patient) { t.Helper(); p.roll(t, "from-secret") }},
		{name: "a profile from a ConfigMap", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			must(t, p.Client.Create(testContext(t), &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: "settings"}, Data: map[string]string{"AWS_PROFILE": "AKIASECRETVALUE"},
			}))
			created(t, p.Lab, pod(p.namespace, "from-configmap", asks, func(q *corev1.Pod) {
				q.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
			}))
			return []string{"pod/from-configmap"}
		}, check: "credentials", state: doctor.Fail, why: "container app takes AWS_PROFILE from configmap settings (envFrom)",
			sentence: "get pod from-configmap -o yaml > from-configmap.yaml, then kubectl replace --force -f from-configmap.yaml",
			mend: func(t *testing.T, p *patient) {
				t.Helper()
				p.run(t, "kubectl -n "+p.namespace+" get pod from-configmap -o yaml > from-configmap.yaml; sed -i '/envFrom:/,/name: settings/d' from-configmap.yaml; "+
					"kubectl replace --force -f from-configmap.yaml", "")
			}},
		{name: "a Pod that declines", inflict: onPod("declines", label("bucket-access.io/policy", "none")), check: "label", state: doctor.Warn, why: "declines access"},
		{name: "static keys that the policy only warns of", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.setPolicy(t, p.document("prefix: new/", "staticCredentials: Warn"))
			created(t, p.Lab, pod(p.namespace, "static", asks, env("AWS_SECRET_ACCESS_KEY", "AKIASECRETVALUE")))
			return []string{"pod/static"}
		}, check: "credentials", state: doctor.Fail, why: "container app sets AWS_SECRET_ACCESS_KEY", sentence: "make it anew", mend: func(t *testing.T, p *patient) {
			t.Helper()
			p.kubectl(t, "-n", p.namespace, "delete", "pod", "static", "--force")
			created(t, p.Lab, pod(p.namespace, "static", asks))
		}},
		{name: "a Pod whose access was revoked", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.setPolicy(t, policyDocument(subject(p.namespace, "api-sa")+", "+subject(p.namespace, "former"), "prefix: new/"))
			p.kubectl(t, "-n", p.namespace, "create", "serviceaccount", "former")
			created(t, p.Lab, pod(p.namespace, "alone", asks, account("former")))
			p.deploy(t, "kept", asks, account("former"))
			p.kubectl(t, "-n", p.namespace, "delete", "pod", "orphan", "--force")
			p.kubectl(t, "-n", p.namespace, "delete", "serviceaccount", "typo")
			p.setPolicy(t, p.document("prefix: new/"))
			return []string{"orders"}
		}, check: "pods", state: doctor.Fail, why: "2 revoked; the first revoked are of deployment/kept", then: func(t *testing.T, p *patient) {
			t.Helper()
			p.roll(t, "kept") // is not refused
			report, _ := p.examine(t, "orders")
			found := find(t, report, "pods")
			if !strings.Contains(found.Why, "1 revoked; the first revoked are of pod/alone") {
				t.Errorf("after the first: %+v", found)
			}
			p.run(t, found.Command, "")
			if err := p.Client.Get(testContext(t), client.ObjectKey{Namespace: p.namespace, Name: "alone"}, &corev1.Pod{}); !apierrors.IsNotFound(err) {
				t.Errorf("it still carries the access: %v", err)
			}
		}},
		{name: "an issuer that nobody can read", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "delete", "clusterrolebinding", "publish-issuer")
			return []string{"pod/app"}
		}, check: "issuer", state: doctor.Warn, why: "can't be read from here", sentence: "publish the issuer's documents", mend: func(t *testing.T, p *patient) { t.Helper(); p.publish(t) }},
		{name: "our entries are not called again", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "patch", "mutatingwebhookconfiguration", lab.Name, "--type=json", "-p", `[{"op":"replace","path":"/webhooks/1/reinvocationPolicy","value":"Never"}]`)
			return nil
		}, check: "order", state: doctor.Warn, why: "namespaced-pods.bucket-access.io is not called again"},
		{name: "EKS's webhook is not called again", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			none := registrationv1.SideEffectClassNone
			must(t, p.Client.Create(testContext(t), &registrationv1.MutatingWebhookConfiguration{
				ObjectMeta: metav1.ObjectMeta{Name: "pod-identity-webhook"}, Webhooks: []registrationv1.MutatingWebhook{{
					Name: "iam-for-pods.amazonaws.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, FailurePolicy: ptr.To(registrationv1.Ignore),
					ClientConfig: registrationv1.WebhookClientConfig{URL: ptr.To("https://127.0.0.1:23443/mutate")},
				}},
			}))
			return nil
		}, check: "order", state: doctor.Warn, why: "EKS's own webhook is not called again", sentence: "nothing must be done", mend: func(t *testing.T, p *patient) {
			t.Helper()
			p.kubectl(t, "delete", "mutatingwebhookconfiguration", "pod-identity-webhook")
		}},
		{name: "a backstop is gone", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "delete", "validatingadmissionpolicybinding", lab.Name+"-pods")
			return nil
		}, check: "backstops", state: doctor.Warn, why: "does not exist", sentence: "install the chart or the manifests again", mend: reinstall},
		{name: "an entry is gone", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "patch", "mutatingwebhookconfiguration", lab.Name, "--type=json", "-p", `[{"op":"remove","path":"/webhooks/2"}]`)
			return nil
		}, check: "configuration", state: doctor.Fail, why: "lacks the entries serviceaccount-pods", sentence: "install the chart or the manifests again", mend: reinstall},
		{name: "the validating configuration is gone", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "delete", "validatingwebhookconfiguration", lab.Name)
			return nil
		}, check: "configuration", state: doctor.Fail, why: "no policy is judged", sentence: "install the chart or the manifests again", mend: reinstall},
		{name: "the mutating configuration is gone", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubectl(t, "delete", "mutatingwebhookconfiguration", lab.Name)
			return []string{"pod/app"}
		}, check: "configuration", state: doctor.Fail, why: "no Pod is sent", sentence: "install the chart or the manifests again", mend: reinstall},
		{name: "another server answers", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.kubeconfig = filepath.Join(p.Dir, "nowhere")
			_, err := p.WriteKubeconfig("nowhere", "https://127.0.0.1:1")
			must(t, err)
			return nil
		}, check: "server", state: doctor.Fail, why: "does not answer", sentence: "see the kubeconfig", mend: func(_ *testing.T, p *patient) { p.kubeconfig = p.Kubeconfig }},
		{name: "one entry's bundle is of another CA", inflict: func(t *testing.T, p *patient) []string {
			// Who writes the bundle may not any more.
			t.Helper()
			p.kubectl(t, "delete", "clusterrolebinding", lab.Name)
			pair, err := lab.ServingPair()
			must(t, err)
			p.setBundle(t, pair["ca.crt"], "namespaced-pods.bucket-access.io")
			return nil
		}, check: "configuration", state: doctor.Fail, why: "not the CA that Pods' entry has, in namespaced-pods.bucket-access.io: ", sentence: "see who writes it",
			mend: reinstall, then: func(t *testing.T, p *patient) { t.Helper(); p.restart(t) }},
		{name: "the bundle is of another CA", inflict: func(t *testing.T, p *patient) []string {
			// Who writes the bundle may not any more.
			t.Helper()
			p.kubectl(t, "delete", "clusterrolebinding", lab.Name)
			pair, err := lab.ServingPair()
			must(t, err)
			p.setBundle(t, pair["ca.crt"])
			return []string{"pod/app"}
		}, check: "call", state: doctor.Fail, why: "does not trust the webhook's certificate", sentence: "see who writes it", mend: reinstall, then: func(t *testing.T, p *patient) { t.Helper(); p.restart(t) }},
		{name: "no replica", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.stopReplicas()
			return []string{"pod/app"}
		}, check: "replicas", state: doctor.Fail, why: "no replica is ready", sentence: "see why", mend: func(t *testing.T, p *patient) { t.Helper(); p.restart(t) }},
		{name: "scaled to nothing", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.stopReplicas()
			p.kubectl(t, "-n", lab.Namespace, "scale", "deployment", lab.Name, "--replicas=0")
			return nil
		}, check: "replicas", state: doctor.Fail, why: "scaled to 0", then: func(t *testing.T, p *patient) { t.Helper(); p.restart(t) }},
		{name: "no bundle", inflict: func(t *testing.T, p *patient) []string {
			t.Helper()
			p.stopReplicas()
			p.setBundle(t, nil)
			return nil
		}, check: "configuration", state: doctor.Fail, why: "no caBundle in", sentence: "see who writes it", mend: func(t *testing.T, p *patient) { t.Helper(); p.restart(t) }},
	}
}

func reinstall(t *testing.T, p *patient) {
	t.Helper()
	p.kubectl(t, "apply", "-k", p.Manifests())
}

func (p *patient) kubectl(t *testing.T, args ...string) {
	t.Helper()
	if _, said, err := p.Kubectl(testContext(t), "", args...); err != nil {
		t.Fatalf("kubectl %s: %s", strings.Join(args, " "), said)
	}
}

func (p *patient) publish(t *testing.T) {
	t.Helper()
	p.kubectl(t, "create", "clusterrolebinding", "publish-issuer", "--clusterrole=system:service-account-issuer-discovery", "--group=system:unauthenticated")
}

func (p *patient) stopReplicas() {
	for _, r := range p.Replicas() {
		r.Kill()
	}
}

// restart replaces all replicas, as kubectl rollout restart does.
func (p *patient) restart(t *testing.T) {
	t.Helper()
	p.stopReplicas()
	p.restarts++
	for _, name := range []string{"a", "b"} {
		_, err := p.StartReplica(testContext(t), fmt.Sprintf("replica-%s%d", name, p.restarts))
		must(t, err)
	}
}

// deploy makes a Deployment as it has rolled out: with its one Pod.
func (p *patient) deploy(t *testing.T, name string, edits ...func(*corev1.Pod)) {
	t.Helper()
	template := pod("", "", append(edits, label("app", name))...)
	must(t, p.Client.Create(testContext(t), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations}, Spec: template.Spec},
		},
	}))
	p.fromTemplate(t, name)
}

// roll makes a Deployment's Pod anew: that must not be refused.
func (p *patient) roll(t *testing.T, name string) {
	t.Helper()
	p.kubectl(t, "-n", p.namespace, "delete", "pod", name+"-6d5f7-0", "--force")
	p.fromTemplate(t, name)
}

func (p *patient) fromTemplate(t *testing.T, name string) {
	t.Helper()
	created(t, p.Lab, p.made(t, name))
}

// made is a Pod as a Deployment's ReplicaSet makes it now.
func (p *patient) made(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	var deployment appsv1.Deployment
	must(t, p.Client.Get(testContext(t), client.ObjectKey{Namespace: p.namespace, Name: name}, &deployment))
	made := pod(p.namespace, name+"-6d5f7-0")
	made.Labels, made.Annotations = deployment.Spec.Template.Labels, deployment.Spec.Template.Annotations
	made.Spec = deployment.Spec.Template.Spec
	ownedBy(name)(made)
	return made
}

// setBundle gives another CA to all entries, or to those named; or none.
func (p *patient) setBundle(t *testing.T, bundle []byte, only ...string) {
	t.Helper()
	var mutating registrationv1.MutatingWebhookConfiguration
	must(t, p.Client.Get(testContext(t), client.ObjectKey{Name: lab.Name}, &mutating))
	named := func(name string) bool { return len(only) == 0 || slices.Contains(only, name) }
	for i := range mutating.Webhooks {
		if named(mutating.Webhooks[i].Name) {
			mutating.Webhooks[i].ClientConfig.CABundle = bundle
		}
	}
	var validating registrationv1.ValidatingWebhookConfiguration
	must(t, p.Client.Get(testContext(t), client.ObjectKey{Name: lab.Name}, &validating))
	for i := range validating.Webhooks {
		if named(validating.Webhooks[i].Name) {
			validating.Webhooks[i].ClientConfig.CABundle = bundle
		}
	}
	must(t, p.Client.Update(testContext(t), &mutating))
	must(t, p.Client.Update(testContext(t), &validating))
}
