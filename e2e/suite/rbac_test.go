package suite

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const webhookUser = "system:serviceaccount:" + lab.Namespace + ":" + lab.Name

// right is one verb on one resource or URL, as a rule of one of the two roles gives it.
type right struct {
	role, group, resource, name, url, verb string
}

func (r right) String() string {
	what := r.resource
	if r.url != "" {
		what = r.url
	}
	if r.name != "" {
		what += "/" + r.name
	}
	return r.role + ": " + r.verb + " " + what
}

func (r right) rule() rbacv1.PolicyRule {
	rule := rbacv1.PolicyRule{Verbs: []string{r.verb}}
	if r.url != "" {
		rule.NonResourceURLs = []string{r.url}
		return rule
	}
	rule.APIGroups, rule.Resources = []string{r.group}, []string{r.resource}
	if r.name != "" {
		rule.ResourceNames = []string{r.name}
	}
	return rule
}

// split takes rules apart as finely as they can be.
func split(role string, rules []rbacv1.PolicyRule) (all []right) {
	orOne := func(list []string) []string {
		if len(list) == 0 {
			return []string{""}
		}
		return list
	}
	for _, rule := range rules {
		for _, verb := range rule.Verbs {
			for _, url := range rule.NonResourceURLs {
				all = append(all, right{role: role, url: url, verb: verb})
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, name := range orOne(rule.ResourceNames) {
						all = append(all, right{role: role, group: group, resource: resource, name: name, verb: verb})
					}
				}
			}
		}
	}
	return all
}

// installedRights are those that the cluster's own roles give to the webhook.
func installedRights(t *testing.T, l *lab.Lab) []right {
	t.Helper()
	var clusterRole rbacv1.ClusterRole
	var role rbacv1.Role
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, &clusterRole))
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: lab.Name}, &role))
	return append(split("ClusterRole", clusterRole.Rules), split("Role", role.Rules)...)
}

// stage is a lab of its own on which scenarios are played, each from the same beginning.
type stage struct {
	*lab.Lab
	plain, labelled, late string // namespaces; late is labelled while a scenario goes on
	lagging               string // kubeconfig by which a replica's cache stays behind
	secret                map[string][]byte
	bundle                []byte
	started               int
}

// scenario is what a user sees of rights: it fails without any of them.
type scenario struct {
	name   string
	rights []string
	play   func(ctx context.Context, s *stage) error
	more   time.Duration // that it needs in order to fail as a user sees it
}

// prompt is what "at once" means. A replica without a watch lists again, at ever longer
// intervals up to 5 s: after four more lists these are longer.
const prompt = 1400 * time.Millisecond

// until tries until there is no error, and returns the last one that is not of ctx itself.
func until(ctx context.Context, what string, condition func() error) error {
	var last error
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not %s: %w", what, last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// promptly does something five times, and each time waits for what must follow at once.
func promptly(ctx context.Context, what string, do func(i int) error, follows func(i int) error) error {
	for i := range 5 {
		if err := do(i); err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, prompt)
		err := until(limited, fmt.Sprintf("%s at once, time %d", what, i+1), func() error { return follows(i) })
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// replica starts a fresh one and waits until it is ready.
func (s *stage) replica(ctx context.Context, flags ...string) (*lab.Replica, error) {
	s.started++
	r, err := s.StartReplica(ctx, fmt.Sprintf("rights-%d", s.started), append([]string{
		"--shutdown-delay=0s", "--certificate-settle=200ms", "--leader-election-retry-period=200ms",
	}, flags...)...)
	if err != nil {
		return nil, fmt.Errorf("a replica is not ready: %w", err)
	}
	return r, nil
}

// gives tells how a Pod lacks the bucket.
func (s *stage) gives(ctx context.Context, p *corev1.Pod, bucket string) error {
	if err := s.Client.Create(ctx, p, client.DryRunAll); err != nil {
		return err
	}
	for _, variable := range p.Spec.Containers[0].Env {
		if variable.Name == "BUCKET_NAME" && variable.Value == bucket {
			return nil
		}
	}
	return fmt.Errorf("the Pod has not the bucket %s: %v", bucket, p.Spec.Containers[0].Env)
}

func (s *stage) labelledPod() *corev1.Pod {
	return pod(s.plain, "rights", label("bucket-access.io/policy", "faults"))
}

// edit reads an object, changes it and writes it, again after a conflict.
func edit[T client.Object](ctx context.Context, l *lab.Lab, object T, change func(T)) error {
	return until(ctx, "changed", func() error {
		if err := l.Client.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change(object)
		return l.Client.Update(ctx, object)
	})
}

func (s *stage) setPolicyLabel(ctx context.Context, object client.Object, policy string) error {
	return edit(ctx, s.Lab, object, func(o client.Object) {
		labels := o.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		if delete(labels, "bucket-access.io/policy"); policy != "" {
			labels["bucket-access.io/policy"] = policy
		}
		o.SetLabels(labels)
	})
}

func namespaceObject(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// annotated tells how the labelled ServiceAccount lacks what its policy says.
func (s *stage) annotated(ctx context.Context, expiration string) error {
	var account corev1.ServiceAccount
	if err := s.Client.Get(ctx, client.ObjectKey{Namespace: s.plain, Name: "labelled"}, &account); err != nil {
		return err
	}
	if got := account.Annotations["eks.amazonaws.com/token-expiration"]; got != expiration {
		return fmt.Errorf("annotated with %q, want %q", got, expiration)
	}
	return nil
}

// events are those on a ConfigMap.
func (s *stage) events(ctx context.Context, namespace, name, reason string, enough func(*eventsv1.Event) bool) error {
	var list eventsv1.EventList
	if err := s.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if e := &list.Items[i]; e.Regarding.Name == name && e.Reason == reason && enough(e) {
			return nil
		}
	}
	return fmt.Errorf("no such Event %s on %s", reason, name)
}

// setBundles writes the caBundle of every entry of one of the configurations.
func (s *stage) setBundles(ctx context.Context, configuration client.Object, bundle []byte) error {
	configuration.SetName(lab.Name)
	return edit(ctx, s.Lab, configuration, func(o client.Object) {
		switch c := o.(type) {
		case *registrationv1.MutatingWebhookConfiguration:
			for i := range c.Webhooks {
				c.Webhooks[i].ClientConfig.CABundle = bundle
			}
		case *registrationv1.ValidatingWebhookConfiguration:
			for i := range c.Webhooks {
				c.Webhooks[i].ClientConfig.CABundle = bundle
			}
		}
	})
}

// bundled tells which entry of both configurations lacks its caBundle: an API server that
// has not noticed yet that it is gone goes on calling.
func (s *stage) bundled(ctx context.Context) error {
	bundles, err := s.CABundles(ctx)
	if i := slices.IndexFunc(bundles, func(bundle []byte) bool { return len(bundle) == 0 }); i >= 0 {
		return fmt.Errorf("entry %d has no caBundle", i)
	}
	return err
}

// injects tells how Pods are not injected by a webhook whose caBundles are complete.
func (s *stage) injects(ctx context.Context) error {
	if err := s.bundled(ctx); err != nil {
		return err
	}
	return s.gives(ctx, s.labelledPod(), "orders-data")
}

// badPolicyRefused tells whether a policy is judged before it is stored.
func (s *stage) badPolicyRefused(ctx context.Context) error {
	if err := s.bundled(ctx); err != nil {
		return err
	}
	err := s.Client.Create(ctx, policyConfigMap("never", "bucket: 5"), client.DryRunAll)
	if err == nil || !strings.Contains(err.Error(), "errors and was not changed") {
		return errors.New("a bad policy was not refused: " + fmt.Sprint(err))
	}
	return nil
}

func (s *stage) deleteCA(ctx context.Context) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: caSecret.Namespace, Name: caSecret.Name}}
	return client.IgnoreNotFound(s.Client.Delete(ctx, secret))
}

func (s *stage) hasCA(ctx context.Context) error {
	if theCA(ctx, s.Lab) == nil {
		return errors.New("the Secret holds no CA")
	}
	return nil
}

// clusterScenarios are those of what the webhook reads and writes of the cluster. The
// entries for ServiceAccounts and for policies are gone, as while no replica answered:
// what they miss is repaired by what is tried here.
func clusterScenarios() []scenario {
	return []scenario{
		{"a replica starts and serves", []string{"ClusterRole: list namespaces", "ClusterRole: list serviceaccounts", "Role: list configmaps"}, serves, 0},
		{"a ServiceAccount's label is followed", []string{"ClusterRole: watch serviceaccounts"}, func(ctx context.Context, s *stage) error {
			if err := reconciled(ctx, s); err != nil {
				return err
			}
			account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.plain, Name: "labelled"}}
			return promptly(ctx, "followed", func(i int) error {
				return s.setPolicyLabel(ctx, account, []string{"other", "faults"}[i%2])
			}, func(i int) error { return s.annotated(ctx, []string{"900", "3600"}[i%2]) })
		}, 0},
		{"policies are watched", []string{"Role: watch configmaps"}, func(ctx context.Context, s *stage) error {
			if err := s.watches(ctx, "configmaps"); err != nil {
				return err
			}
			return promptly(ctx, "followed", func(i int) error {
				changed := strings.Replace(policyDocument(subject("*", "*")), "orders-data", fmt.Sprintf("orders-%d", i), 1)
				return s.Client.Update(ctx, policyConfigMap("faults", changed))
			}, func(i int) error { return s.gives(ctx, s.labelledPod(), fmt.Sprintf("orders-%d", i)) })
		}, 5 * time.Second},
		{"a ServiceAccount that was there before is annotated", []string{
			"ClusterRole: patch serviceaccounts", "Role: create leases", "Role: get leases/" + lab.Name,
		}, reconciled, 0},
		{"a Lease that was given back is taken over", []string{"Role: update leases/" + lab.Name}, func(ctx context.Context, s *stage) error {
			lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: lab.Name}}
			if err := s.Client.Create(ctx, lease); err != nil {
				return err
			}
			return reconciled(ctx, s)
		}, 0},
		{"a broken policy survives a restart", []string{
			"Role: create configmaps/bucket-access-webhook-last-good", "Role: patch configmaps/bucket-access-webhook-last-good",
			"Role: update configmaps/bucket-access-webhook-last-good",
		}, survives, 2 * time.Second},
		{"an Event tells of a broken policy", []string{"ClusterRole: create events"}, func(ctx context.Context, s *stage) error {
			_, err := announced(ctx, s)
			return err
		}, 0},
		{"a policy for another cluster is refused", []string{"ClusterRole: get /.well-known/openid-configuration"}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx); err != nil {
				return err
			}
			return until(ctx, "refused", func() error {
				err := s.Client.Create(ctx, pod(s.plain, "rights", label("bucket-access.io/policy", "elsewhere")), client.DryRunAll)
				if err == nil || !strings.Contains(err.Error(), "names another token issuer than this cluster's") {
					return errors.New("it was not: " + fmt.Sprint(err))
				}
				return nil
			})
		}, 0},
	}
}

// cacheScenarios are those of what is known of Namespaces and ServiceAccounts, in time.
func cacheScenarios() []scenario {
	return []scenario{
		{"a Namespace's label is followed", []string{"ClusterRole: watch namespaces"}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx); err != nil {
				return err
			}
			return promptly(ctx, "followed", func(i int) error {
				return s.setPolicyLabel(ctx, namespaceObject(s.labelled), []string{"other", "faults"}[i%2])
			}, func(i int) error {
				return s.gives(ctx, pod(s.labelled, "rights"), []string{"orders-moved", "orders-data"}[i%2])
			})
		}, 0},
		{"a label that the cache has not seen yet counts", []string{"ClusterRole: get namespaces"}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx, "--kubeconfig="+s.lagging); err != nil {
				return err
			}
			if err := s.setPolicyLabel(ctx, namespaceObject(s.late), "faults"); err != nil {
				return err
			}
			return until(ctx, "injected", func() error { return s.gives(ctx, pod(s.late, "rights"), "orders-data") })
		}, 0},
		{"a ServiceAccount that the cache has not seen yet counts", []string{"ClusterRole: get serviceaccounts"}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx, "--kubeconfig="+s.lagging); err != nil {
				return err
			}
			if err := s.Client.Create(ctx, labelledAccount(s.plain, "late", "faults", nil)); err != nil {
				return err
			}
			return until(ctx, "injected", func() error { return s.gives(ctx, pod(s.plain, "rights", account("late")), "orders-data") })
		}, 0},
		{"a subject that the cache has not seen yet counts", []string{"Role: get configmaps"}, func(ctx context.Context, s *stage) error {
			if err := s.Client.Update(ctx, policyConfigMap("faults", policyDocument(subject("nobody", "*")))); err != nil {
				return err
			}
			if _, err := s.replica(ctx, "--kubeconfig="+s.lagging); err != nil {
				return err
			}
			if err := s.Client.Update(ctx, policyConfigMap("faults", policyDocument(subject("*", "*")))); err != nil {
				return err
			}
			return until(ctx, "injected", func() error { return s.gives(ctx, s.labelledPod(), "orders-data") })
		}, 0},
	}
}

// podScenarios are those of what is known of the Pods that run.
func podScenarios() []scenario {
	// told tells how the answer to a label lacks the number of Pods of a Namespace.
	told := func(ctx context.Context, s *stage, namespace string, pods int) error {
		_, said, err := s.Kubectl(ctx, "", "label", "namespace", namespace, "--dry-run=server", "bucket-access.io/policy=faults")
		if want := fmt.Sprintf(`%d Pods of Namespace "%s" predate the label`, pods, namespace); err == nil && !strings.Contains(said, want) {
			return fmt.Errorf("%d Pods were not told of: %s", pods, said)
		}
		return err
	}
	running := func(ctx context.Context, s *stage, names ...string) (string, error) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rights-"}}
		if err := s.Client.Create(ctx, namespace); err != nil {
			return "", err
		}
		errs := []error{s.EnsureDefaultAccount(ctx, namespace.Name)}
		for _, name := range names {
			errs = append(errs, s.Client.Create(ctx, pod(namespace.Name, name, account("default"))))
		}
		return namespace.Name, errors.Join(errs...)
	}
	return []scenario{
		{"a labelled Namespace is told of the Pods that run", []string{"ClusterRole: list pods"}, func(ctx context.Context, s *stage) error {
			namespace, err := running(ctx, s, "a", "b")
			if err := errors.Join(err, second(s.replica(ctx))); err != nil {
				return err
			}
			return until(ctx, "told", func() error { return told(ctx, s, namespace, 2) })
		}, 0},
		{"Pods are watched", []string{"ClusterRole: watch pods"}, func(ctx context.Context, s *stage) error { return s.watches(ctx, "pods") }, 5 * time.Second},
	}
}

// certificateScenarios are those of the serving certificate.
func certificateScenarios() []scenario {
	const mutating, validating = "mutatingwebhookconfigurations/" + lab.Name, "validatingwebhookconfigurations/" + lab.Name
	const secret = "secrets/bucket-access-webhook-ca"
	return []scenario{
		{"a replica starts and serves", []string{"ClusterRole: list " + mutating, "ClusterRole: list " + validating, "Role: list " + secret}, serves, 0},
		{"caBundles of Pods' entries come back", []string{"ClusterRole: get " + mutating, "ClusterRole: patch " + mutating, "Role: get " + secret},
			func(ctx context.Context, s *stage) error {
				if err := errors.Join(second(s.replica(ctx)), s.setBundles(ctx, &registrationv1.MutatingWebhookConfiguration{}, nil)); err != nil {
					return err
				}
				return until(ctx, "injected again", func() error { return s.injects(ctx) })
			}, 0},
		{"caBundles of the policies' entry come back", []string{"ClusterRole: get " + validating, "ClusterRole: patch " + validating},
			func(ctx context.Context, s *stage) error {
				if err := errors.Join(second(s.replica(ctx)), s.setBundles(ctx, &registrationv1.ValidatingWebhookConfiguration{}, nil)); err != nil {
					return err
				}
				return until(ctx, "judged again", func() error { return s.badPolicyRefused(ctx) })
			}, 0},
		{"caBundles of Pods' entries come back at once", []string{"ClusterRole: watch " + mutating}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx); err != nil {
				return err
			}
			return promptly(ctx, "injected again", func(int) error {
				return s.setBundles(ctx, &registrationv1.MutatingWebhookConfiguration{}, nil)
			}, func(int) error { return s.injects(ctx) })
		}, 0},
		{"caBundles of the policies' entry come back at once", []string{"ClusterRole: watch " + validating}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx); err != nil {
				return err
			}
			return promptly(ctx, "judged again", func(int) error {
				return s.setBundles(ctx, &registrationv1.ValidatingWebhookConfiguration{}, nil)
			}, func(int) error { return s.badPolicyRefused(ctx) })
		}, 0},
		{"the CA is made again", []string{"Role: create " + secret, "Role: patch " + secret, "Role: update " + secret}, func(ctx context.Context, s *stage) error {
			if err := errors.Join(second(s.replica(ctx)), s.deleteCA(ctx)); err != nil {
				return err
			}
			return until(ctx, "made again", func() error { return s.hasCA(ctx) })
		}, 0},
		{"the CA is made again at once", []string{"Role: watch " + secret}, func(ctx context.Context, s *stage) error {
			if _, err := s.replica(ctx); err != nil {
				return err
			}
			return promptly(ctx, "made again", func(int) error { return s.deleteCA(ctx) }, func(int) error { return s.hasCA(ctx) })
		}, 0},
	}
}

func second[T any](_ T, err error) error { return err }

func serves(ctx context.Context, s *stage) error {
	if _, err := s.replica(ctx); err != nil {
		return err
	}
	return until(ctx, "injected", func() error { return s.gives(ctx, s.labelledPod(), "orders-data") })
}

func reconciled(ctx context.Context, s *stage) error {
	if _, err := s.replica(ctx); err != nil {
		return err
	}
	return until(ctx, "annotated", func() error { return s.annotated(ctx, "3600") })
}

func survives(ctx context.Context, s *stage) error {
	r, err := s.replica(ctx)
	if err == nil {
		err = s.Client.Update(ctx, policyConfigMap("faults", "bucket: [broken"))
	}
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, prompt)
	defer cancel()
	notKept := until(limited, "remembered", func() error {
		var kept corev1.ConfigMap
		if err := s.Client.Get(limited, client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-last-good"}, &kept); err != nil {
			return err
		}
		if !strings.Contains(kept.Data["faults"], "orders-data") {
			return errors.New("no record")
		}
		return nil
	})
	r.Kill()
	if err := serves(ctx, s); err != nil {
		return errors.Join(err, notKept)
	}
	return notKept
}

func always(*eventsv1.Event) bool { return true }

// announced breaks a policy and waits for the Event; the name is one that no Event knows.
func announced(ctx context.Context, s *stage) (name string, err error) {
	if err := reconciled(ctx, s); err != nil { // it leads
		return "", err
	}
	name = fmt.Sprintf("broken-%d", s.started)
	if err := s.Client.Create(ctx, policyConfigMap(name, "bucket: [broken")); err != nil {
		return "", err
	}
	return name, until(ctx, "told", func() error { return s.events(ctx, lab.Namespace, "policy-"+name, "InvalidPolicy", always) })
}

// newStage starts a lab and what the scenarios begin with.
func newStage(t *testing.T) *stage {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{LogDir: os.Getenv("LOG_DIR")})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	s := &stage{Lab: l}
	s.plain, s.labelled, s.late = newNamespace(t, l, nil, "api-sa"), newNamespace(t, l, nil, "api-sa"), newNamespace(t, l, nil, "api-sa")
	s.lagging = laggingKubeconfig(t, l)
	// A hardened cluster: not every ServiceAccount may read the token issuer.
	discovery := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "system:service-account-issuer-discovery"}}
	must(t, l.Client.Delete(t.Context(), discovery))
	return s
}

// laggingKubeconfig leads by a proxy that withholds what watches of Namespaces,
// ServiceAccounts and policies tell: a cache that is behind for as long as the replica runs.
func laggingKubeconfig(t *testing.T, l *lab.Lab) string {
	t.Helper()
	withheld := []string{"/api/v1/namespaces", "/api/v1/serviceaccounts", "/api/v1/namespaces/" + lab.Namespace + "/configmaps"}
	target, err := url.Parse(l.Config.Host)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.Config.CAData)
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, FlushInterval: -1,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("watch") != "" && slices.Contains(withheld, r.URL.Path) {
			<-r.Context().Done()
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		for _, r := range l.Replicas() {
			r.Kill() // the server would wait for what it still asks
		}
		server.CloseClientConnections()
		server.Close()
	})
	config, err := clientcmd.LoadFromFile(filepath.Join(l.Dir, "webhook.kubeconfig"))
	must(t, err)
	for _, cluster := range config.Clusters {
		cluster.Server = server.URL
		cluster.CertificateAuthorityData = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	}
	path := filepath.Join(l.Dir, "lagging.kubeconfig")
	must(t, clientcmd.WriteToFile(*config, path))
	return path
}

// reset takes the stage back to where every scenario begins, without any replica.
func (s *stage) reset(t *testing.T) {
	t.Helper()
	ctx := testContext(t)
	for _, r := range s.Replicas() {
		r.Kill()
	}
	key := metav1.ObjectMeta{Namespace: lab.Namespace, Name: lab.Name}
	for _, object := range []client.Object{
		&coordinationv1.Lease{ObjectMeta: key},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "bucket-access-webhook-last-good"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.plain, Name: "labelled"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.plain, Name: "late"}},
	} {
		must(t, client.IgnoreNotFound(s.Client.Delete(ctx, object)))
	}
	must(t, s.Client.DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace(lab.Namespace), client.MatchingLabels{"bucket-access.io/policies": "true"}))
	all := subject("*", "*")
	must(t, s.Client.Create(ctx, policyConfigMap("faults", policyDocument(all))))
	must(t, s.Client.Create(ctx, policyConfigMap("other", strings.Replace(policyDocument(all, "tokenExpirationSeconds: 900"), "orders-data", "orders-moved", 1))))
	const issuer = "issuer: https://oidc.eks.eu-west-1.amazonaws.com/id/ELSEWHERE"
	must(t, s.Client.Create(ctx, policyConfigMap("elsewhere", policyDocument(all, issuer))))
	must(t, s.setPolicyLabel(ctx, namespaceObject(s.labelled), "faults"))
	must(t, s.setPolicyLabel(ctx, namespaceObject(s.late), ""))
	must(t, s.Client.Create(ctx, labelledAccount(s.plain, "labelled", "faults", nil)))
	if s.secret == nil {
		return
	}
	must(t, s.deleteCA(ctx))
	must(t, s.Client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: caSecret.Namespace, Name: caSecret.Name}, Data: s.secret}))
	must(t, s.setBundles(ctx, &registrationv1.MutatingWebhookConfiguration{}, s.bundle))
	must(t, client.IgnoreNotFound(s.setBundles(ctx, &registrationv1.ValidatingWebhookConfiguration{}, s.bundle)))
}

// settle lets a first replica make what the stage is reset to.
func (s *stage) settle(t *testing.T) {
	t.Helper()
	s.reset(t)
	must(t, serves(testContext(t), s))
	var secret corev1.Secret
	must(t, s.Client.Get(t.Context(), caSecret, &secret))
	bundles, err := s.CABundles(t.Context())
	must(t, err)
	s.secret, s.bundle = secret.Data, bundles[0]
}

// grant makes the webhook's rights these and no others.
func (s *stage) grant(t *testing.T, all []right) {
	t.Helper()
	rules := map[string][]rbacv1.PolicyRule{}
	for _, r := range all {
		rules[r.role] = append(rules[r.role], r.rule())
	}
	ctx := testContext(t)
	meta := metav1.ObjectMeta{Name: lab.Name}
	must(t, edit(ctx, s.Lab, &rbacv1.ClusterRole{ObjectMeta: meta}, func(role *rbacv1.ClusterRole) { role.Rules = rules["ClusterRole"] }))
	meta.Namespace = lab.Namespace
	must(t, edit(ctx, s.Lab, &rbacv1.Role{ObjectMeta: meta}, func(role *rbacv1.Role) { role.Rules = rules["Role"] }))
}

// waitAllowed waits until the API server judges a right of the webhook so.
func (s *stage) waitAllowed(t *testing.T, r right, want bool) {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: webhookUser, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + lab.Namespace, "system:authenticated"},
	}}
	if r.url != "" {
		review.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: r.url, Verb: r.verb}
	} else {
		review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Group: r.group, Resource: r.resource, Name: r.name, Verb: r.verb}
		if r.role == "Role" {
			review.Spec.ResourceAttributes.Namespace = lab.Namespace
		}
	}
	eventually(t, fmt.Sprintf("%s is allowed: %t", r, want), func() bool {
		asked := review.DeepCopy()
		must(t, s.Client.Create(t.Context(), asked))
		return asked.Status.Allowed == want
	})
}

// audited reads what the API server has written down after an offset.
func (s *stage) audited(offset int) []byte {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "audit.log")) // without it nothing has been refused
	return text[min(offset, len(text)):]
}

// watches starts a replica and tells whether it lists something again and again: it follows then,
// too, but at the API server's cost, which is what users see of it.
func (s *stage) watches(ctx context.Context, resource string) error {
	offset := len(s.audited(0))
	if _, err := s.replica(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second): // in which it would list four times and more
	}
	lists := 0
	for line := range bytes.Lines(s.audited(offset)) {
		var event auditEvent
		if json.Unmarshal(line, &event) == nil && event.User.Username == webhookUser && event.Verb == "list" && event.ObjectRef.Resource == resource {
			lists++
		}
	}
	if lists > 1 {
		return fmt.Errorf("%s were listed %d times", resource, lists) //nolint:err113 // for a person
	}
	return nil
}

// auditEvent is what the API server notes of a request that it has answered.
type auditEvent struct {
	Verb, RequestURI string
	User             struct{ Username string }
	ObjectRef        struct{ APIGroup, Resource, Name string }
	ResponseStatus   struct{ Code int }
}

// refusedFor tells whether the API server has refused this very right to the webhook. A
// create that holds for one name is asked for by a patch that makes its object.
func refusedFor(log []byte, r right) bool {
	for line := range bytes.Lines(log) {
		var event auditEvent
		if json.Unmarshal(line, &event) != nil || event.User.Username != webhookUser || event.ResponseStatus.Code != http.StatusForbidden {
			continue
		}
		if r.url != "" {
			if event.RequestURI == r.url && event.Verb == r.verb {
				return true
			}
			continue
		}
		verb := event.Verb == r.verb || r.verb == "create" && r.name != "" && event.Verb == "patch"
		if verb && event.ObjectRef.APIGroup == r.group && event.ObjectRef.Resource == r.resource && (r.name == "" || event.ObjectRef.Name == r.name) {
			return true
		}
	}
	return false
}

// playAll plays every scenario with all rights, and then without each of its own.
func (s *stage) playAll(t *testing.T, all []right, scenarios []scenario) {
	t.Helper()
	s.grant(t, all) // split, which changes nothing
	s.settle(t)
	for _, scene := range scenarios {
		s.reset(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		start := time.Now()
		err := scene.play(ctx, s)
		took := time.Since(start)
		cancel()
		if err != nil {
			t.Errorf("with all rights: %s: %v", scene.name, err)
			continue
		}
		for _, r := range all {
			if slices.Contains(scene.rights, r.String()) {
				s.playWithout(t, all, r, scene, took)
			}
		}
	}
}

// playWithout plays a scenario without one right. It goes on for clearly longer than it
// takes with all of them, and until the API server has refused that right.
func (s *stage) playWithout(t *testing.T, all []right, r right, scene scenario, took time.Duration) {
	t.Helper()
	s.reset(t)
	s.grant(t, slices.DeleteFunc(slices.Clone(all), func(other right) bool { return other == r }))
	s.waitAllowed(t, r, false)
	offset := len(s.audited(0))
	ctx, cancel := context.WithTimeout(t.Context(), 4*took+5*time.Second)
	defer cancel()
	start := time.Now()
	go func() {
		for ctx.Err() == nil && (time.Since(start) < took+prompt+scene.more || !refusedFor(s.audited(offset), r)) {
			time.Sleep(50 * time.Millisecond)
		}
		cancel()
	}()
	err := scene.play(ctx, s)
	cancel()
	if log := s.audited(offset); err == nil {
		t.Errorf("%s: nothing fails without it (asked for and refused: %t): drop it, or let a scenario show what it is for", r, refusedFor(log, r))
	} else if !refusedFor(log, r) {
		t.Errorf("%s: %s failed, but the API server has refused no such request: %v", r, scene.name, err)
	} else {
		t.Logf("without %s: %q took %.1f s with it, and in %.1f s: %.200s", r, scene.name, took.Seconds(), time.Since(start).Seconds(), err)
	}
	s.grant(t, all)
	s.waitAllowed(t, r, true)
}

// TestEveryRightIsNeeded takes each right that the chart gives to the webhook away in turn:
// something that a user sees must fail then, and the API server have refused that very
// request. Replicas list before they watch here, as they do where the API server or its
// etcd is too old to stream a list: the others don't need the verb.
func TestEveryRightIsNeeded(t *testing.T) {
	t.Setenv("KUBE_FEATURE_WatchListClient", "false")
	var known []string
	whole := slices.Concat(certificateScenarios(), cacheScenarios(), podScenarios())
	for _, scene := range append(clusterScenarios(), whole...) {
		known = append(known, scene.rights...)
	}
	all := installedRights(t, cluster)
	for _, r := range all {
		if !slices.Contains(known, r.String()) {
			t.Errorf("no scenario for %q: add one or drop the rule", r)
		}
		known = slices.DeleteFunc(known, func(name string) bool { return name == r.String() })
	}
	if len(known) > 0 {
		t.Errorf("scenarios for rights that the chart does not give: %q", known)
	}
	var group sync.WaitGroup
	group.Go(func() {
		t.Run("cluster", func(t *testing.T) {
			s := newStage(t)
			mutating := &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}
			must(t, edit(testContext(t), s.Lab, mutating, func(c *registrationv1.MutatingWebhookConfiguration) {
				c.Webhooks = slices.DeleteFunc(c.Webhooks, func(entry registrationv1.MutatingWebhook) bool {
					return strings.HasPrefix(entry.Name, "serviceaccounts.")
				})
			}))
			validating := &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}
			must(t, edit(testContext(t), s.Lab, validating, func(c *registrationv1.ValidatingWebhookConfiguration) { c.Webhooks = nil }))
			s.playAll(t, all, clusterScenarios())
		})
	})
	group.Go(func() {
		t.Run("certificates and caches", func(t *testing.T) { newStage(t).playAll(t, all, whole) })
	})
	group.Wait()
}
