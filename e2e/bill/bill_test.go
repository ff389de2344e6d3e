// Package bill adds up what one created Pod costs a cluster: CPU of the API server and of the
// webhook, and the time that whoever creates it waits, with us and without.
package bill

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const labelPolicy = "bucket-access.io/policy"

func TestMain(m *testing.M) {
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// site is a cluster: with the webhook in one of its modes, or without.
type site struct {
	name            string
	clients         *kubernetes.Clientset
	server, webhook process
}

// process is one that is measured.
type process struct {
	pid  int     // 0 is none
	idle float64 // the share of a core that it takes while nothing is asked of it
}

// way is how a Pod is created, and what becomes of it.
type way struct {
	name, site, namespace, account string
	labels                         map[string]string
	containers, pods               int // in each Pod, and how many of these
	injected                       bool
}

func ways() (all []way) {
	defer func() {
		for i := range all {
			all[i].pods = 200
		}
	}()
	asks := map[string]string{labelPolicy: "orders"}
	for _, containers := range []int{1, 3, 20} {
		all = append(all,
			way{name: "no webhook in the cluster", site: "without", namespace: "plain", account: "api-sa", containers: containers},
			way{name: "bystander, mode Policy", site: "default", namespace: "plain", account: "api-sa", containers: containers},
			way{name: "bystander, mode Webhook", site: "older-kubernetes", namespace: "plain", account: "api-sa", containers: containers},
			way{name: "by the Pod's label", site: "default", namespace: "plain", account: "api-sa", labels: asks, containers: containers, injected: true},
		)
	}
	return append(all,
		way{name: "by the ServiceAccount's, mode Policy", site: "default", namespace: "plain", account: "labelled", containers: 3, injected: true},
		way{name: "by the ServiceAccount's, mode Webhook", site: "older-kubernetes", namespace: "plain", account: "labelled", containers: 3, injected: true},
		way{name: "by the Namespace's", site: "default", namespace: "asking", account: "api-sa", containers: 3, injected: true},
		way{name: "by the Namespace's, and not listed", site: "default", namespace: "asking", account: "other", containers: 3},
	)
}

// BenchmarkTheWholeBill creates the same number of Pods in each way, in turns, BILL_ROUNDS
// times, and tells medians.
func BenchmarkTheWholeBill(t *testing.B) {
	rounds, err := strconv.Atoi(cmp.Or(os.Getenv("BILL_ROUNDS"), "5"))
	must(t, err)
	sites := map[string]*site{}
	for _, name := range []string{"without", "default", "older-kubernetes"} {
		sites[name] = newSite(t, name)
	}
	atRest(t, sites)
	costs := map[int][]cost{}
	all := ways()
	for round := range rounds + 1 {
		for i, w := range all {
			c := w.measure(t, sites[w.site], fmt.Sprintf("%d-%d", round, i))
			if round > 0 { // the first one warms caches up
				costs[i] = append(costs[i], c)
			}
		}
		fmt.Printf("bill: round %d of %d\n", round, rounds)
	}
	tell("%-38s %10s %12s %12s %10s %10s", "median of "+strconv.Itoa(rounds), "containers", "API server", "webhook", "p50", "p99")
	for i, w := range all {
		c := median(costs[i])
		tell("%-38s %10d %12s %12s %10s %10s", w.name, w.containers, c.server.Round(10*time.Microsecond), c.webhook.Round(10*time.Microsecond),
			c.p50.Round(10*time.Microsecond), c.p99.Round(10*time.Microsecond))
	}
	for i := 0; i < len(all); i += 4 {
		if all[i].site != "without" {
			break
		}
		base, policy, called := median(costs[i]), median(costs[i+1]), median(costs[i+2])
		tell("%d containers: a bystander costs %.2f times the CPU of a cluster without us in mode Policy, %.2f in mode Webhook", all[i].containers,
			float64(policy.server+policy.webhook)/float64(base.server), float64(called.server+called.webhook)/float64(base.server))
	}
}

type cost struct{ server, webhook, p50, p99 time.Duration }

// plus adds up CPU.
func (c cost) plus(other cost) cost {
	return cost{server: c.server + other.server, webhook: c.webhook + other.webhook}
}

func median(costs []cost) cost {
	of := func(field func(cost) time.Duration) time.Duration {
		values := make([]time.Duration, len(costs))
		for i, c := range costs {
			values[i] = field(c)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return cost{
		server: of(func(c cost) time.Duration { return c.server }), webhook: of(func(c cost) time.Duration { return c.webhook }),
		p50: of(func(c cost) time.Duration { return c.p50 }), p99: of(func(c cost) time.Duration { return c.p99 }),
	}
}

// settles is how long after a request something is done for it: watches tell of the Pod, and a
// replica reads what they tell a quarter of a second later.
const settles = 400 * time.Millisecond

// measure creates Pods one after the other and takes them away.
func (w way) measure(tb testing.TB, s *site, id string) cost {
	tb.Helper()
	n := w.pods
	time.Sleep(settles)
	server, webhook := s.server.since(tb), s.webhook.since(tb)
	took := make([]time.Duration, n)
	for i := range took {
		p := w.pod(fmt.Sprintf("%s-%d", id, i))
		start := time.Now()
		made, err := s.clients.CoreV1().Pods(w.namespace).Create(tb.Context(), p, metav1.CreateOptions{})
		took[i] = time.Since(start)
		must(tb, err)
		if _, injected := made.Labels["bucket-access.io/injected"]; injected != w.injected {
			tb.Fatalf("%s: injected is %t", w.name, injected)
		}
	}
	time.Sleep(settles)
	c := cost{server: server() / time.Duration(n), webhook: webhook() / time.Duration(n)}
	slices.Sort(took)
	c.p50, c.p99 = took[n/2], took[(n-1)*99/100]
	w.remove(tb, s)
	return c
}

// remove takes the Pods away.
func (w way) remove(tb testing.TB, s *site) {
	tb.Helper()
	now := int64(0)
	must(tb, s.clients.CoreV1().Pods(w.namespace).DeleteCollection(tb.Context(), metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}))
}

func (w way) pod(name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "orders-api"}}, Spec: corev1.PodSpec{ServiceAccountName: w.account}}
	for key, value := range w.labels {
		p.Labels[key] = value
	}
	for i := range w.containers {
		c := corev1.Container{Name: fmt.Sprintf("container-%d", i), Image: "registry.example.com/shop/orders-api:v1.2.3"}
		for n := range 20 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SOME_VARIABLE_%d", n), Value: "a value of some length, as they have"})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

func newSite(tb testing.TB, name string) *site {
	tb.Helper()
	manifests := name
	if name == "without" {
		manifests = lab.None
	}
	l, err := lab.Start(tb.Context(), lab.Options{Manifests: manifests, LogDir: os.Getenv("LOG_DIR")})
	must(tb, err)
	tb.Cleanup(func() { must(tb, l.Stop()) })
	ctx := tb.Context()
	for namespace, labels := range map[string]map[string]string{"plain": nil, "asking": {labelPolicy: "orders"}} {
		must(tb, l.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: labels}}))
		for _, account := range []string{"api-sa", "other"} {
			must(tb, l.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}))
		}
	}
	s := &site{name: name, server: process{pid: serverOf(tb, l)}}
	if name != "without" {
		others := ""
		for n := range mostLabelled {
			others += fmt.Sprintf(", {namespace: \"*\", serviceAccount: labelled-%d}", n)
		}
		must(tb, l.Client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "policies", Labels: map[string]string{"bucket-access.io/policies": "true"}},
			Data: map[string]string{"orders": "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
				"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: \"*\", serviceAccount: api-sa}, {namespace: plain, serviceAccount: labelled}" + others + "]\n"},
		}))
		replica, err := l.StartReplica(ctx, "billed-"+name, "--log-level=info")
		must(tb, err)
		s.webhook.pid = replica.PID()
	}
	must(tb, l.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "labelled", Labels: map[string]string{labelPolicy: "orders"}}}))
	time.Sleep(2 * time.Second) // until the API server has seen what was installed
	config := rest.CopyConfig(l.Config)
	config.QPS, config.ContentType, config.WarningHandler = -1, runtime.ContentTypeProtobuf, rest.NoWarnings{} // as controllers ask
	s.clients, err = kubernetes.NewForConfig(config)
	must(tb, err)
	return s
}

// serverOf is the PID of a lab's kube-apiserver, of which several run.
func serverOf(tb testing.TB, l *lab.Lab) int {
	tb.Helper()
	address, err := url.Parse(l.Config.Host)
	must(tb, err)
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(tb, err)
	for _, path := range lines {
		text, err := os.ReadFile(path)
		if err == nil && bytes.Contains(text, []byte("kube-apiserver")) && bytes.Contains(text, []byte("--advertise-address="+address.Hostname()+"\x00")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			must(tb, err)
			return pid
		}
	}
	tb.Fatalf("no kube-apiserver at %s", address.Hostname())
	return 0
}

// atRest measures what all take while nothing is asked of them.
func atRest(tb testing.TB, sites map[string]*site) {
	tb.Helper()
	const long = 20 * time.Second
	var idle []func()
	for _, s := range sites {
		for _, p := range []*process{&s.server, &s.webhook} {
			used := p.since(tb)
			idle = append(idle, func() { p.idle = used().Seconds() / long.Seconds() })
		}
	}
	time.Sleep(long)
	for _, each := range idle {
		each()
	}
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		tell("bill: %s: at rest, the API server takes %.1f ms of CPU a second, the webhook %.1f", name, 1000*sites[name].server.idle, 1000*sites[name].webhook.idle)
	}
}

// since is what a process uses from now on, besides what it does at rest.
func (p *process) since(tb testing.TB) (used func() time.Duration) {
	tb.Helper()
	if p.pid == 0 {
		return func() time.Duration { return 0 }
	}
	begin := time.Now()
	before, err := lab.CPU(p.pid)
	must(tb, err)
	return func() time.Duration {
		now, err := lab.CPU(p.pid)
		must(tb, err)
		return now - before - time.Duration(p.idle*float64(time.Since(begin)))
	}
}

// tell prints a line of a table, of which a benchmark's own log would be cut.
func tell(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
