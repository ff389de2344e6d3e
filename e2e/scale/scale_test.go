package scale

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// memoryLimit is the container's that fits this size (the chart's default is 128Mi, for a
// tenth of it), of which the chart makes 90 % GOMEMLIMIT; settled is what may be left of it
// when the first lists are done.
const (
	memoryLimit = 256 << 20
	settled     = 150 << 20
)

// TestScale: 100,000 ServiceAccounts, 10,000 Namespaces, 50,000 injected Pods and 10,000
// policies. It fails where memory is above its bound, where a change does not come into force,
// or where the reconciler asks more often than it may; times are told.
func TestScale(t *testing.T) {
	scale, err := strconv.ParseFloat(cmp.Or(os.Getenv("SCALE"), "0.01"), 64)
	must(t, err)
	t.Setenv("GOMEMLIMIT", strconv.Itoa(memoryLimit/10*9))
	l, err := lab.Start(t.Context(), lab.Options{LogDir: os.Getenv("LOG_DIR")})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	f := newFiller(t, l, sizeOf(scale))
	// In a small cluster, for comparison.
	must(t, l.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team-small"}}))
	must(t, l.Client.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "team-small", Name: "application-small"}}))
	must(t, l.Client.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "small", Labels: map[string]string{"bucket-access.io/policies": "true"}},
		Data:       map[string]string{"small": document(-1, 3600)},
	}))
	small, err := l.StartReplica(t.Context(), "small", "--log-level=info")
	must(t, err)
	injected := f.injectedPod(t)
	before := f.admission(t, small)
	t.Logf("one admission in a small cluster: %s of CPU, p50 %s, p99 %s; %d MiB", before.cpu, before.p50, before.p99, rss(t, small)>>20)
	f.fill(t)
	small.Kill()
	var mutating registrationv1.MutatingWebhookConfiguration
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, &mutating))
	must(t, l.Client.Delete(t.Context(), mutating.DeepCopy()))
	time.Sleep(2 * time.Second) // until the API server has seen it
	f.fillPods(t, injected)
	mutating.ResourceVersion, mutating.UID = "", ""
	must(t, l.Client.Create(t.Context(), &mutating))

	var replicas []*lab.Replica
	for _, name := range []string{"one", "two"} {
		start := time.Now()
		r, err := l.StartReplica(t.Context(), name, "--log-level=info", "--leader-election-lease-duration=15s", "--leader-election-renew-deadline=10s", "--leader-election-retry-period=2s")
		must(t, err)
		t.Logf("%s is ready after %s, %d MiB", name, time.Since(start).Round(100*time.Millisecond), rss(t, r)>>20)
		replicas = append(replicas, r)
	}
	f.settle(t, replicas)
	f.change(t, replicas)
	after := f.admission(t, replicas[1])
	t.Logf("one admission in this cluster: %s of CPU, p50 %s, p99 %s: %.2f times the CPU in a small one", after.cpu, after.p50, after.p99, float64(after.cpu)/float64(before.cpu))
	f.settle(t, replicas)
}

// settle waits, and holds memory against its bound.
func (f *filler) settle(t *testing.T, replicas []*lab.Replica) {
	t.Helper()
	time.Sleep(time.Duration(3+f.size.pods/2000) * time.Second) // of garbage, some seconds after the lists
	for _, r := range replicas {
		peak := status(t, r, "VmHWM")
		if now := rss(t, r); now > settled {
			t.Errorf("%s has %d MiB; settled it must have at most %d", r.Name, now>>20, settled>>20)
		} else {
			t.Logf("%s has %d MiB settled, %d MiB at its peak", r.Name, now>>20, peak>>20)
		}
	}
}

// change changes the policy of many ServiceAccounts: when every replica injects it, when all
// are annotated, and how the leader went about it.
func (f *filler) change(t *testing.T, replicas []*lab.Replica) {
	t.Helper()
	offset := size64(t, f)
	start := time.Now()
	must(t, f.Client.Update(t.Context(), f.policyObject(0, 7200)))
	for _, r := range replicas {
		for !strings.Contains(f.ask(t, r), `"expirationSeconds":7200`) {
			if time.Since(start) > time.Minute {
				t.Fatalf("%s does not inject the changed policy", r.Name)
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("the change is in force on %s after %s", r.Name, time.Since(start).Round(time.Millisecond))
	}
	// All 100 policies of the ConfigMap have changed, and the hot one is most of their ServiceAccounts.
	want := 0
	for i := range f.size.labelled {
		if n, _ := strconv.Atoi(strings.TrimPrefix(f.policyOf(i), "policy-")); n < perObject {
			want++
		}
	}
	var at []time.Time
	for len(at) < want {
		if time.Since(start) > 10*time.Minute {
			t.Fatalf("%d of %d ServiceAccounts were annotated", len(at), want)
		}
		time.Sleep(time.Second)
		at = patches(t, f, offset)
	}
	took := at[len(at)-1].Sub(at[0])
	most := 0
	for i := range at {
		inside, _ := slices.BinarySearchFunc(at, at[i].Add(time.Second), time.Time.Compare)
		most = max(most, inside-i)
	}
	t.Logf("%d ServiceAccounts annotated by %d patches in %s, at most %d in a second", want, len(at), took.Round(100*time.Millisecond), most)
	// As --kube-api-qps and --kube-api-burst are; noted where they arrive, one a tenth of a second
	// later than another at most.
	const qps, burst, late = 50, 100, 50 / 10
	if most > qps+burst+late {
		t.Errorf("%d patches in a second", most)
	}
	if len(at) > want+want/10 {
		t.Errorf("%d patches for %d ServiceAccounts", len(at), want)
	}
}

func (f *filler) audit() string { return filepath.Join(f.Dir, "audit.log") }

func size64(t *testing.T, f *filler) int64 {
	t.Helper()
	info, err := os.Stat(f.audit())
	must(t, err)
	return info.Size()
}

// patches are the times of the webhook's own patches of ServiceAccounts since an offset.
func patches(t *testing.T, f *filler, offset int64) (at []time.Time) {
	t.Helper()
	file, err := os.Open(f.audit())
	must(t, err)
	defer file.Close()
	_, err = file.Seek(offset, io.SeekStart)
	must(t, err)
	text, err := io.ReadAll(file)
	must(t, err)
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(lab.Name)) || !bytes.HasSuffix(line, []byte("\n")) {
			continue
		}
		var e struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef struct{ Resource string }
			At        time.Time `json:"requestReceivedTimestamp"`
		}
		must(t, json.Unmarshal(line, &e))
		if e.Verb == "patch" && e.ObjectRef.Resource == "serviceaccounts" && strings.HasSuffix(e.User.Username, ":"+lab.Name) {
			at = append(at, e.At)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// injectedPod is one as the webhook makes it.
func (f *filler) injectedPod(t *testing.T) *corev1.Pod {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		p := typicalPod("small")
		err := f.Client.Create(t.Context(), p, client.DryRunAll)
		if err == nil && p.Labels["bucket-access.io/injected"] == "small" {
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("no Pod is injected: %v", err)
		}
	}
}

func typicalPod(policy string) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-small", Name: "probe", Labels: map[string]string{labelPolicy: policy, "app": "probe"}},
		Spec:       corev1.PodSpec{ServiceAccountName: "application-small"},
	}
	for i := range 3 {
		c := corev1.Container{Name: fmt.Sprintf("app-%d", i), Image: "registry.example.com/app:v1"}
		for n := range 20 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", n), Value: "some value that is not long"})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

// cost of one admission.
type cost struct{ cpu, p50, p99 time.Duration }

// admission asks a replica directly, one request after the other on one connection.
func (f *filler) admission(t *testing.T, r *lab.Replica) cost {
	t.Helper()
	f.ask(t, r)
	const n = 10_000
	took := make([]time.Duration, n)
	before := cpu(t, r)
	for i := range took {
		start := time.Now()
		f.ask(t, r)
		took[i] = time.Since(start)
	}
	spent := cpu(t, r) - before
	slices.Sort(took)
	return cost{cpu: spent / n, p50: took[n/2].Round(time.Microsecond), p99: took[n*99/100].Round(time.Microsecond)}
}

var https = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// ask posts a review of a Pod that names the hot policy, or the small one before that exists.
func (f *filler) ask(t *testing.T, r *lab.Replica) string {
	t.Helper()
	policy := hotPolicy
	if r.Name == "small" {
		policy = "small"
	}
	p := typicalPod(policy)
	text, err := json.Marshal(p)
	must(t, err)
	body := fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"x","operation":"CREATE","resource":{"group":"","version":"v1","resource":"pods"},`+
		`"namespace":%q,"name":"probe","object":%s}}`, p.Namespace, text)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+r.Address()+"/mutate/pods", bytes.NewReader(body))
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := https.Do(request)
	must(t, err)
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	must(t, err)
	var review struct{ Response struct{ Patch []byte } }
	if err := json.Unmarshal(said, &review); err != nil || len(review.Response.Patch) == 0 {
		t.Fatalf("%s: %s", r.Name, said)
	}
	return string(review.Response.Patch)
}

func rss(t *testing.T, r *lab.Replica) int64 { t.Helper(); return status(t, r, "VmRSS") }

// status is a size in /proc/PID/status, in bytes.
func status(t *testing.T, r *lab.Replica, name string) int64 {
	t.Helper()
	size, err := lab.Memory(r.PID(), name)
	must(t, err)
	return size
}

func cpu(t *testing.T, r *lab.Replica) time.Duration {
	t.Helper()
	used, err := lab.CPU(r.PID())
	must(t, err)
	return used
}
