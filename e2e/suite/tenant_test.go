package suite

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
)

// tenant may create Pods, ServiceAccounts and workloads in one namespace, reaches the
// webhook's Service, and may do nothing else. Beside it live a policy of another team, and
// one of its own.
type tenant struct {
	*kubernetes.Clientset

	namespace string
	victim    string // the other team's namespace
	warnings  *heard
}

// heard keeps the warnings that the API server answers with.
type heard struct {
	mu   sync.Mutex
	said []string
}

func (h *heard) HandleWarningHeader(_ int, _, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, text)
}

func (h *heard) drain() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.said = nil }()
	return strings.Join(h.said, "\n")
}

// secrets of the other team that no answer may hold.
var secrets = []string{"crown-jewels", "333333333333", "role/vault"}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	victim := newNamespace(t, cluster, nil, "vault-sa")
	ns := newNamespace(t, cluster, nil, "api-sa")
	treasure := strings.NewReplacer("orders-data", "crown-jewels", "222222222222:role/s3-reader-role", "333333333333:role/vault").Replace(policyDocument(subject(victim, "vault-sa")))
	for name, document := range map[string]string{"treasure": treasure, "own": policyDocument(subject(ns, "api-sa"))} {
		must(t, cluster.Client.Create(testContext(t), policyConfigMap(name, document)))
		t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), policyConfigMap(name, "")) })
	}
	time.Sleep(300 * time.Millisecond)
	must(t, cluster.Client.Create(testContext(t), &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "tenant"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "pods/ephemeralcontainers", "serviceaccounts"}, Verbs: []string{"*"}},
		{APIGroups: []string{"apps", "batch"}, Resources: []string{"*"}, Verbs: []string{"*"}},
	}}))
	must(t, cluster.Client.Create(testContext(t), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "tenant"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "tenant"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "mallory"}},
	}))
	config := rest.CopyConfig(cluster.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "mallory", Groups: []string{"system:authenticated"}}
	m := &tenant{namespace: ns, victim: victim, warnings: &heard{}}
	config.WarningHandler = m.warnings
	clients, err := kubernetes.NewForConfig(config)
	must(t, err)
	m.Clientset = clients
	return m
}

// keeps fails where an answer tells what is another team's.
func (m *tenant) keeps(t *testing.T, what, said string) {
	t.Helper()
	for _, secret := range append(slices.Clone(secrets), m.victim) {
		if strings.Contains(said, secret) {
			t.Errorf("%s tells %q:\n%s", what, secret, said)
		}
	}
	if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("%s has control characters: %q", what, said)
	}
}

// refused is what is said to a request that must not succeed.
func (m *tenant) refused(t *testing.T, what string, err error) string {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeds", what)
		return m.warnings.drain()
	}
	said := err.Error() + "\n" + m.warnings.drain()
	m.keeps(t, what, said)
	return said
}

// TestATenantGetsNothingOfAnothers tries what somebody may who can create Pods,
// ServiceAccounts and workloads in one namespace, and reaches the webhook's port.
func TestATenantGetsNothingOfAnothers(t *testing.T) {
	m := newTenant(t)
	t.Run("another's policy", m.anothersPolicy)
	t.Run("another's ServiceAccount and Pods", m.anothersObjects)
	t.Run("forged records", m.forgedRecords)
	t.Run("hostile values", m.hostileValues)
	t.Run("a forged review", m.forgedReviews)
	t.Run("the webhook's own", m.webhooksOwn)
	t.Run("metrics", m.metrics)
}

func (m *tenant) anothersPolicy(t *testing.T) {
	ctx := testContext(t)
	_, err := m.CoreV1().Pods(m.namespace).Create(ctx, pod(m.namespace, "thief", label("bucket-access.io/policy", "treasure")), metav1.CreateOptions{})
	if said := m.refused(t, "a Pod with its label", err); !strings.Contains(said, "it lists none") || !strings.Contains(said, "(and 1 others elsewhere)") {
		t.Error(said)
	}
	labelled := labelledAccount(m.namespace, "thief", "treasure", nil)
	_, err = m.CoreV1().ServiceAccounts(m.namespace).Create(ctx, labelled, metav1.CreateOptions{})
	m.refused(t, "a ServiceAccount with its label", err)
	named := pod(m.namespace, "thief", label("bucket-access.io/policy", "treasure"), account("vault-sa"))
	_, err = m.CoreV1().ServiceAccounts(m.namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "vault-sa"}}, metav1.CreateOptions{})
	must(t, err)
	_, err = m.CoreV1().Pods(m.namespace).Create(ctx, named, metav1.CreateOptions{})
	m.refused(t, "a Pod of a ServiceAccount of the same name", err)
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "thief"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "thief"}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "thief", "bucket-access.io/policy": "treasure"}},
			Spec:       corev1.PodSpec{ServiceAccountName: "api-sa", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		},
	}}
	_, err = m.AppsV1().Deployments(m.namespace).Create(ctx, deployment, metav1.CreateOptions{})
	must(t, err)
	if said := m.warnings.drain(); !strings.Contains(said, "will be refused") {
		t.Errorf("a Deployment is told: %s", said)
	} else {
		m.keeps(t, "the warning on a Deployment", said)
	}
}

func (m *tenant) anothersObjects(t *testing.T) {
	ctx := testContext(t)
	theirs := created(t, cluster, pod(m.victim, "victim", account("vault-sa"), label("bucket-access.io/policy", "treasure")))
	for what, try := range map[string]func() error{
		"a Pod in their namespace": func() error {
			_, err := m.CoreV1().Pods(m.victim).Create(ctx, pod(m.victim, "thief", account("vault-sa"), label("bucket-access.io/policy", "treasure")), metav1.CreateOptions{})
			return err
		},
		"a token of their ServiceAccount": func() error {
			_, err := m.CoreV1().ServiceAccounts(m.victim).CreateToken(ctx, "vault-sa", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
		"the reader in their Pod": func() error {
			changed := theirs.DeepCopy()
			changed.Annotations["bucket-access.io/reader"] = "true"
			_, err := m.CoreV1().Pods(m.victim).Update(ctx, changed, metav1.UpdateOptions{})
			return err
		},
		"a debug container in their Pod": func() error {
			changed := theirs.DeepCopy()
			changed.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "app"}}}
			_, err := m.CoreV1().Pods(m.victim).UpdateEphemeralContainers(ctx, "victim", changed, metav1.UpdateOptions{})
			return err
		},
		"the label on a Namespace": func() error {
			_, err := m.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "thief", Labels: map[string]string{"bucket-access.io/policy": "treasure"}}}, metav1.CreateOptions{})
			return err
		},
	} {
		if err := try(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// forgedRecords: what we write of ourselves, written by somebody else.
func (m *tenant) forgedRecords(t *testing.T) {
	ctx := testContext(t)
	status := `{"policy":"treasure","role":"arn:aws:iam::1:role/x","hash":"0123456789abcdef"}`
	// Without a label of its own the Pod is nobody's: it goes through as it is.
	forged, err := m.CoreV1().Pods(m.namespace).Create(ctx, pod(m.namespace, "forged",
		label("bucket-access.io/injected", "treasure"), annotation("bucket-access.io/status", status)), metav1.CreateOptions{})
	must(t, err)
	m.keeps(t, "a Pod with forged records", fmt.Sprint(forged.Spec))
	// Debug containers get what the record says, which is what the tenant wrote itself.
	forged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "app"}}}
	debugged, err := m.CoreV1().Pods(m.namespace).UpdateEphemeralContainers(ctx, "forged", forged, metav1.UpdateOptions{})
	must(t, err)
	m.keeps(t, "its debug container", fmt.Sprint(debugged.Spec))
	// With one's own policy the records are made anew.
	own, err := m.CoreV1().Pods(m.namespace).Create(ctx, pod(m.namespace, "own", label("bucket-access.io/policy", "own"),
		label("bucket-access.io/injected", "treasure"), annotation("bucket-access.io/status", status)), metav1.CreateOptions{})
	must(t, err)
	if lacks := lacksInjection(own, "own"); lacks != "" || strings.Contains(own.Annotations["bucket-access.io/status"], "treasure") {
		t.Errorf("lacks %s: %v", lacks, own.Annotations)
	}
	// The label that marks Pods of labelled ServiceAccounts is no way around the subjects.
	for _, key := range slices.Sorted(maps.Keys(own.Labels)) {
		marked := pod(m.namespace, "marked")
		marked.Labels = map[string]string{key: "treasure"}
		marked, err := m.CoreV1().Pods(m.namespace).Create(ctx, marked, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		m.keeps(t, "a Pod with the label "+key, fmt.Sprint(marked, err))
	}
	// A forged record of what we wrote on a ServiceAccount gives and takes nothing.
	sa := labelledAccount(m.namespace, "forged", "", map[string]string{
		"bucket-access.io/managed": `{"eks.amazonaws.com/role-arn":"arn:aws:iam::1:role/mine","team":"x"}`, "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/mine", "team": "x",
	})
	sa.Labels = nil
	sa, err = m.CoreV1().ServiceAccounts(m.namespace).Create(ctx, sa, metav1.CreateOptions{})
	must(t, err)
	m.keeps(t, "a ServiceAccount with a forged record", fmt.Sprint(sa.Annotations))
	if sa.Annotations["team"] != "x" {
		t.Errorf("an annotation that is none of ours went: %v", sa.Annotations)
	}
}

// hostileValues stand wherever the webhook reads: the answer is a sentence, or a Pod with the
// policy's own values.
func (m *tenant) hostileValues(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	for what, edit := range map[string]func(*corev1.Pod){
		"a pointer in skip-containers":     annotation("eks.amazonaws.com/skip-containers", `/spec/containers/0","op":"remove`),
		"lines in skip-containers":         annotation("eks.amazonaws.com/skip-containers", "a\nb\x1b[2J\r\u202e"),
		"an open quote in skip-containers": annotation("eks.amazonaws.com/skip-containers", `"app`),
		"a very long skip-containers":      annotation("eks.amazonaws.com/skip-containers", long),
		"a token lifetime with a line":     annotation("eks.amazonaws.com/token-expiration", "3600\n"),
		"a token lifetime in other digits": annotation("eks.amazonaws.com/token-expiration", "٣٦٠٠"),
		"a token lifetime beyond 64 bits":  annotation("eks.amazonaws.com/token-expiration", strings.Repeat("9", 400)),
		"a token lifetime below zero":      annotation("eks.amazonaws.com/token-expiration", "-3600"),
		"a lone surrogate":                 annotation("bucket-access.io/skip-containers", "\ufffd\u2028"),
		"an unreadable status":             annotation("bucket-access.io/status", `{"policy":`+strings.Repeat("[", 5000)),
		"a status of a great many values":  annotation("bucket-access.io/status", `{"env":{"A":"`+long+`"}}`),
		"a reader of one's own":            annotation("bucket-access.io/reader", "registry.example.com/evil"),
		"another role":                     env("AWS_ROLE_ARN", "arn:aws:iam::333333333333:role/other"),
		"a role that is filled in":         env("AWS_ROLE_ARN", "$(HOME)"),
		"another's token file":             env("AWS_WEB_IDENTITY_TOKEN_FILE", "/proc/1/root/token"),
		"a bucket of one's own":            env("BUCKET_NAME", "mine"),
		"a variable with a strange name":   env("AWS_ROLE_ARN\x00", "x"),
		"a variable that ends in one":      env("X", "$(AWS_ROLE_ARN"),
		"a container named as the reader":  func(p *corev1.Pod) { p.Spec.Containers[0].Name = "bucket-access-reader" },
		"a volume in the token's place":    func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: "aws-iam-token"}} },
		"a mount in the token's place": func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "x"}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/var/run/secrets/eks.amazonaws.com/serviceaccount"}}
		},
		"a hundred containers": func(p *corev1.Pod) { p.Spec.Containers = hundred(p.Spec.Containers[0]) },
		"a thousand variables of one name": func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = slices.Repeat([]corev1.EnvVar{{Name: "AWS_REGION", Value: "x"}}, 1000)
		},
		"a finalizer and an owner of a kind": func(p *corev1.Pod) { p.Finalizers = []string{"bucket-access.io/x"} },
	} {
		t.Run(what, func(t *testing.T) {
			p := pod(m.namespace, "hostile", label("bucket-access.io/policy", "own"))
			edit(p)
			given, err := m.CoreV1().Pods(m.namespace).Create(testContext(t), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			said := m.warnings.drain()
			if err != nil {
				said += err.Error()
			}
			if len(said) > 20_000 {
				t.Errorf("the answer has %d bytes", len(said))
			}
			if strings.ContainsFunc(said, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f || r == '\u202e' }) {
				t.Errorf("the answer has control characters: %q", said)
			}
			if apierrors.IsInternalError(err) || strings.Contains(said, "failed calling webhook") {
				t.Fatal(said)
			}
			if err != nil {
				return // a sentence
			}
			roles := map[string]bool{}
			for _, c := range given.Spec.Containers {
				for _, e := range c.Env {
					if e.Name == "AWS_ROLE_ARN" {
						roles[e.Value] = true
					}
				}
			}
			delete(roles, "arn:aws:iam::222222222222:role/s3-reader-role")
			if len(roles) > 0 || given.Labels["bucket-access.io/injected"] != "own" {
				t.Errorf("let in with the roles %v, injected %q", roles, given.Labels["bucket-access.io/injected"])
			}
		})
	}
}

func hundred(c corev1.Container) (all []corev1.Container) {
	for i := range 100 {
		c.Name = fmt.Sprintf("app-%d", i)
		all = append(all, c)
	}
	return all
}

// direct asks a replica as somebody who reaches its port.
func direct(ctx context.Context, path string, body []byte) (status int, said string, err error) {
	return directTo(ctx, cluster.Replicas()[0], path, body)
}

func directTo(ctx context.Context, replica *lab.Replica, path string, body []byte) (status int, said string, err error) {
	config := &tls.Config{InsecureSkipVerify: true}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+replica.Address()+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func reviewOf(resource, namespace string, object any) []byte {
	text, err := json.Marshal(object)
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"forged","operation":"CREATE","resource":{"group":"","version":"v1","resource":%q},`+
		`"namespace":%q,"name":"forged","userInfo":{"username":"system:admin","groups":["system:masters"]},"object":%s}}`, resource, namespace, text)
}

// forgedReviews: anybody who reaches the port can post one.
func (m *tenant) forgedReviews(t *testing.T) {
	ctx := testContext(t)
	for what, p := range map[string]*corev1.Pod{
		"of one's own Pod":                 pod(m.namespace, "x", label("bucket-access.io/policy", "treasure")),
		"of another ServiceAccount there":  pod(m.victim, "x", label("bucket-access.io/policy", "treasure"), account("default")),
		"of a pattern":                     pod("*", "x", label("bucket-access.io/policy", "treasure"), account("*")),
		"of no namespace":                  pod("", "x", label("bucket-access.io/policy", "treasure"), account("vault-sa")),
		"of a namespace that is not there": pod("no-such", "x", label("bucket-access.io/policy", "treasure"), account("vault-sa")),
	} {
		for _, entry := range admission.Entries() {
			status, said, err := direct(ctx, entry.Path(), reviewOf("pods", p.Namespace, p))
			must(t, err)
			for _, secret := range []string{"crown-jewels", "333333333333"} {
				if strings.Contains(said, secret) {
					t.Errorf("a review %s at %s tells %q: %d %s", what, entry, secret, status, said)
				}
			}
			if strings.Contains(said, "vault") && p.Namespace != m.victim && !strings.Contains(fmt.Sprint(p.Spec), "vault") {
				t.Errorf("a review %s at %s lists another namespace's subjects: %s", what, entry, said)
			}
		}
	}
	for _, path := range []string{"/", "/metrics", "/debug/pprof/", "/healthz", "/mutate/", "/mutate/../metrics"} {
		if status, said, err := direct(ctx, path, nil); err != nil || status != http.StatusNotFound {
			t.Errorf("%s: %d %s, %v", path, status, said, err)
		}
	}
}

// webhooksOwn is what would let somebody stand in for it, or change policies.
func (m *tenant) webhooksOwn(t *testing.T) {
	ctx := testContext(t)
	system := m.CoreV1()
	for what, try := range map[string]func() error{
		"its Secrets": func() error { _, err := system.Secrets(lab.Namespace).List(ctx, metav1.ListOptions{}); return err },
		"its CA's Secret": func() error {
			_, err := system.Secrets(lab.Namespace).Get(ctx, lab.Name+"-ca", metav1.GetOptions{})
			return err
		},
		"the policies": func() error { _, err := system.ConfigMaps(lab.Namespace).List(ctx, metav1.ListOptions{}); return err },
		"a policy": func() error {
			_, err := system.ConfigMaps(lab.Namespace).Create(ctx, policyConfigMap("mine", ""), metav1.CreateOptions{})
			return err
		},
		"a Pod beside it": func() error {
			_, err := system.Pods(lab.Namespace).Create(ctx, pod(lab.Namespace, "x", account(lab.Name)), metav1.CreateOptions{})
			return err
		},
		"a token of its own": func() error {
			_, err := system.ServiceAccounts(lab.Namespace).CreateToken(ctx, lab.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
		"its configuration": func() error {
			return m.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(ctx, lab.Name, metav1.DeleteOptions{})
		},
	} {
		if err := try(); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// metrics are read by whoever reaches their port: names of policies and numbers.
func (m *tenant) metrics(t *testing.T) {
	text := scrape(t)
	m.keeps(t, "the metrics", text)
	if !strings.Contains(text, `policy="treasure"`) && !strings.Contains(text, "bucket_access_admissions_total") {
		t.Errorf("these are no metrics: %.300s", text)
	}
}

func scrape(t *testing.T) string {
	t.Helper()
	request, err := http.NewRequestWithContext(testContext(t), http.MethodGet, cluster.Replicas()[0].Metrics, http.NoBody)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	return string(text)
}

// TestATenantFillsNothing: thousands of refusals, through the API server and past it, grow
// no metric, make no Events, and are some lines of log.
func TestATenantFillsNothing(t *testing.T) {
	m := newTenant(t)
	replica := cluster.Replicas()[0]
	series := func() int {
		n := 0
		for line := range strings.Lines(scrape(t)) {
			if strings.HasPrefix(line, "bucket_access_") {
				n++
			}
		}
		return n
	}
	refusals := func() int {
		text, err := os.ReadFile(replica.Log)
		must(t, err)
		return bytes.Count(text, []byte("Review refused"))
	}
	events := func() int {
		list, err := kubernetes.NewForConfigOrDie(cluster.Config).EventsV1().Events("").List(testContext(t), metav1.ListOptions{})
		must(t, err)
		return len(list.Items)
	}
	flood := func(n int, name string) {
		t.Helper()
		var group sync.WaitGroup
		for worker := range 8 {
			group.Go(func() {
				for i := range n / 8 {
					id := fmt.Sprintf("%s-%d-%d", name, worker, i)
					p := pod(m.namespace, id, label("bucket-access.io/policy", id), label("bucket-access.io/injected", id))
					if i%10 == 0 {
						_, _ = m.CoreV1().Pods(m.namespace).Create(t.Context(), p, metav1.CreateOptions{})
						_, _ = m.CoreV1().ServiceAccounts(m.namespace).Create(t.Context(), labelledAccount(m.namespace, id, id, nil), metav1.CreateOptions{})
						continue
					}
					for _, entry := range []admission.Entry{admission.Pods, admission.ServiceAccounts, admission.Namespaces} {
						_, _, _ = direct(t.Context(), entry.Path(), reviewOf("pods", id, p))
					}
				}
			})
		}
		group.Wait()
	}
	flood(160, "first") // every reason that there is has been given
	// Pods that former tests left count for this one's policies of the same names, each five seconds.
	time.Sleep(6 * time.Second)
	before, lines, told := series(), refusals(), events()
	start := time.Now()
	flood(480, "second")
	took := time.Since(start)
	if after := series(); after > before {
		t.Errorf("%d series became %d", before, after)
	}
	// Five a second after the first hundred, of each replica.
	if said := refusals() - lines; said > 100+int(5*took.Seconds()+5) || said == 0 {
		t.Errorf("%d lines of log in %s", said, took)
	}
	if more := events() - told; more > 0 {
		t.Errorf("%d Events", more)
	}
	t.Logf("480 refusals, most of them sent to three entries, in %s", took.Round(time.Millisecond))
}

// TestATenantSlowsNobodyDown: huge and deep reviews, and a crowd of connections, while others
// create labelled Pods: each is injected, and none waits for its timeout.
func TestATenantSlowsNobodyDown(t *testing.T) {
	m := newTenant(t)
	var stop atomic.Bool
	var group sync.WaitGroup
	deep := fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"object":{"spec":%s%s}}}`, strings.Repeat(`{"a":`, 500_000), strings.Repeat("}", 500_000))
	wide := pod(m.namespace, "wide", label("bucket-access.io/policy", "own"))
	for i := range 20_000 {
		wide.Spec.Containers[0].Env = append(wide.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("AWS_REGION_%d", i), Value: strings.Repeat("x", 200)})
	}
	var answered, turnedAway atomic.Int64
	for i, body := range [][]byte{deep, reviewOf("pods", m.namespace, wide), slices.Repeat([]byte{'['}, 6<<20), deep, reviewOf("pods", m.namespace, wide)} {
		group.Go(func() {
			for !stop.Load() {
				if status, _, err := direct(t.Context(), admission.Entries()[i%3].Path(), body); err != nil || status == http.StatusTooManyRequests {
					turnedAway.Add(1)
				} else {
					answered.Add(1)
				}
			}
		})
	}
	var slowest time.Duration
	const pods = 100
	for i := range pods {
		p := pod(m.victim, fmt.Sprintf("fast-%d", i), account("vault-sa"), label("bucket-access.io/policy", "treasure"))
		start := time.Now()
		if err := cluster.Client.Create(testContext(t), p); err != nil {
			t.Errorf("Pod %d: %v", i, err)
		} else if p.Labels["bucket-access.io/injected"] != "treasure" {
			t.Errorf("Pod %d is not injected", i)
		}
		slowest = max(slowest, time.Since(start))
	}
	stop.Store(true)
	group.Wait()
	t.Logf("%d hostile reviews answered, %d turned away; the slowest of %d Pods took %s", answered.Load(), turnedAway.Load(), pods, slowest.Round(time.Millisecond))
	if answered.Load() == 0 {
		t.Error("no hostile review was answered: this shows nothing")
	}
	for _, replica := range cluster.Replicas() {
		if !replica.Ready() {
			t.Errorf("%s is not ready", replica.Name)
		}
	}
}

// TestNoSecretIsLogged plants some where the webhook comes by: in variables, annotations and
// errors of Pods and ServiceAccounts, its own token, its CA's key; and logs all there is.
func TestNoSecretIsLogged(t *testing.T) {
	m := newTenant(t)
	replica, err := cluster.StartReplica(testContext(t), "talkative", "--log-level=DEBUG-100")
	must(t, err)
	t.Cleanup(func() { must(t, replica.Terminate()) })
	const planted = "AKIAPLANTEDPLANTED01"
	asks := label("bucket-access.io/policy", "own")
	for i, p := range []*corev1.Pod{
		pod(m.namespace, "denied", asks, env("AWS_SECRET_ACCESS_KEY", planted)),
		pod(m.namespace, "conflict", asks, env("AWS_ROLE_ARN", planted)),
		pod(m.namespace, "kept", asks, env("AWS_REGION", planted), env("DB_PASSWORD", planted), annotation("password", planted)),
		pod(m.namespace, "lifetime", asks, annotation("eks.amazonaws.com/token-expiration", planted)),
		pod(m.namespace, "skipped", asks, annotation("eks.amazonaws.com/skip-containers", planted)),
		pod(m.namespace, "status", asks, annotation("bucket-access.io/status", `{"env":{"X":"`+planted+`"`)),
		pod(m.namespace, "command", asks, func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{planted} }),
	} {
		must(t, client.IgnoreAlreadyExists(ignoreRefusal(cluster.Client.Create(testContext(t), p))))
		for _, entry := range []admission.Entry{admission.Pods, admission.Workloads, admission.ServiceAccounts} {
			_, _, err := directTo(t.Context(), replica, entry.Path(), reviewOf("pods", m.namespace, p))
			must(t, err)
			// Cut off in the middle of what was planted.
			text := reviewOf("pods", m.namespace, p)
			at := bytes.Index(text, []byte(planted)) + len(planted) - i%3
			_, _, err = directTo(t.Context(), replica, entry.Path(), append(text[:at:at], 0x01, '{'))
			must(t, err)
		}
	}
	sa := labelledAccount(m.namespace, "keys", "own", map[string]string{"password": planted, "eks.amazonaws.com/role-arn": planted})
	must(t, ignoreRefusal(cluster.Client.Create(testContext(t), sa)))
	config, err := clientcmd.LoadFromFile(filepath.Join(cluster.Dir, "webhook.kubeconfig"))
	must(t, err)
	words := []string{planted, "PRIVATE KEY"}
	for _, user := range config.AuthInfos {
		words = append(words, user.Token)
	}
	var ca corev1.Secret
	must(t, cluster.Client.Get(testContext(t), client.ObjectKey{Namespace: lab.Namespace, Name: lab.Name + "-ca"}, &ca))
	for name, value := range ca.Data {
		if strings.Contains(name, "key") {
			words = append(words, strings.Split(string(value), "\n")[1])
		}
	}
	if len(words) != 4 || slices.Contains(words, "") {
		t.Fatalf("%d words to look for", len(words))
	}
	time.Sleep(time.Second) // for the reconciler to have its say
	for _, r := range cluster.Replicas() {
		text, err := os.ReadFile(r.Log)
		must(t, err)
		if len(text) < 1000 {
			t.Errorf("%s has logged %d bytes: this shows nothing", r.Name, len(text))
		}
		for _, word := range words {
			if i := bytes.Index(text, []byte(word)); i >= 0 {
				t.Errorf("%s logs a secret: …%s…", r.Name, text[max(i-300, 0):min(i+len(word), len(text))])
			}
		}
	}
}

func ignoreRefusal(err error) error {
	if err != nil && strings.Contains(err.Error(), "denied the request") {
		return nil
	}
	return err
}
