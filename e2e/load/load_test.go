package load

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// server is what is measured: a process that answers at an address.
type server struct {
	name, address string
	path          string
	pid           int
	fresh         bool // is the webhook, whose answers are looked at
}

// result of a measurement.
type result struct {
	of           string
	took         time.Duration
	good, failed int
	busy, later  int // 429 and 503
	cpu          time.Duration
	latencies    []time.Duration // of good answers
	away         []time.Duration // until a 429 or 503
	planned      int
}

func (r *result) line() string {
	at := func(of []time.Duration, part float64) time.Duration {
		if len(of) == 0 {
			return 0
		}
		slices.Sort(of)
		return of[int(float64(len(of)-1)*part)].Round(10 * time.Microsecond)
	}
	persecond := func(n int) float64 { return float64(n) / r.took.Seconds() }
	text := fmt.Sprintf("%7.0f/s good, %6.0f/s 429, %.0f/s 503, %d failed, %s CPU each, p50 %s, p99 %s, p99.9 %s", persecond(r.good), persecond(r.busy), persecond(r.later), r.failed,
		r.each().Round(100*time.Nanosecond), at(r.latencies, .5), at(r.latencies, .99), at(r.latencies, .999))
	if r.busy+r.later > 0 {
		text += fmt.Sprintf("; turned away after p50 %s, p99 %s", at(r.away, .5), at(r.away, .99))
	}
	return text
}

// each is the CPU of one request, whatever its answer.
func (r *result) each() time.Duration {
	if n := r.good + r.busy + r.later; n > 0 {
		return r.cpu / time.Duration(n)
	}
	return 0
}

// seconds a measurement takes.
func seconds(tb testing.TB) time.Duration {
	tb.Helper()
	text := cmp.Or(os.Getenv("LOAD_SECONDS"), "5")
	n, err := strconv.ParseFloat(text, 64)
	must(tb, err)
	return time.Duration(n * float64(time.Second))
}

func clientOf(http2 bool, conns int) *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: conns, MaxConnsPerHost: conns,
	}}
}

// one request; ok is false for what is no answer.
func (s *server) one(ctx context.Context, client *http.Client, body []byte) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+s.address+s.path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && s.fresh && response.StatusCode == http.StatusOK && !bytes.Contains(text, []byte(`"patch"`)) {
		return 0, fmt.Errorf("an answer without a patch: %.200s", text) //nolint:err113 // for a person
	}
	return response.StatusCode, err
}

// size is the length of the answer.
func (s *server) size(tb testing.TB, body []byte) int {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "https://"+s.address+s.path, bytes.NewReader(body))
	must(tb, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := clientOf(false, 1).Do(request)
	must(tb, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(tb, err)
	return len(text)
}

// closed keeps so many requests in flight; each comes when the one before was answered.
func (s *server) closed(tb testing.TB, http2 bool, inFlight int, body []byte, lasting time.Duration) *result {
	tb.Helper()
	client := clientOf(http2, inFlight)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	var total result
	var mu sync.Mutex
	var group, connected sync.WaitGroup
	var stop, measuring atomic.Bool
	connected.Add(inFlight)
	for range inFlight {
		group.Go(func() {
			var mine result
			_, err := s.one(ctx, client, body)
			connected.Done()
			if err != nil {
				mine.failed++
			}
			for !stop.Load() {
				start := time.Now()
				status, err := s.one(ctx, client, body)
				if measuring.Load() {
					mine.count(status, err, time.Since(start))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.add(&mine)
		})
	}
	connected.Wait()
	measuring.Store(true)
	before, start := cpu(tb, s.pid), time.Now()
	time.Sleep(lasting)
	measuring.Store(false)
	total.cpu, total.took = cpu(tb, s.pid)-before, time.Since(start)
	stop.Store(true)
	group.Wait()
	return &total
}

// open sends so many a second, whether they are answered or not, as an API server's users do.
func (s *server) open(tb testing.TB, client *http.Client, rate float64, body []byte) *result {
	tb.Helper()
	var total result
	var mu sync.Mutex
	var group sync.WaitGroup
	before, start := cpu(tb, s.pid), time.Now()
	total.planned = int(rate * seconds(tb).Seconds())
	for i := range total.planned {
		due := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		group.Go(func() {
			status, err := s.one(tb.Context(), client, body)
			took := time.Since(due) // what the one who asked has waited
			mu.Lock()
			defer mu.Unlock()
			total.count(status, err, took)
		})
	}
	group.Wait()
	total.cpu, total.took = cpu(tb, s.pid)-before, time.Since(start)
	return &total
}

func (r *result) count(status int, err error, took time.Duration) {
	switch {
	case err != nil || status != http.StatusOK && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable:
		r.failed++
	case status == http.StatusTooManyRequests:
		r.busy++
		r.away = append(r.away, took)
	case status == http.StatusServiceUnavailable:
		r.later++
		r.away = append(r.away, took)
	default:
		r.good++
		r.latencies = append(r.latencies, took)
	}
}

func (r *result) add(other *result) {
	r.good, r.busy, r.later, r.failed = r.good+other.good, r.busy+other.busy, r.later+other.later, r.failed+other.failed
	r.took, r.cpu = r.took+other.took, r.cpu+other.cpu
	r.latencies, r.away = append(r.latencies, other.latencies...), append(r.away, other.away...)
}

// BenchmarkLoad tells requests a second, CPU of each and latencies, from one in flight to twice of
// what is let in, beside a constant answer: a short one, and one of the webhook's size, which has as
// much to encrypt and to send. They take turns. It fails where a request is lost or answered wrong.
func BenchmarkLoad(b *testing.B) {
	webhook, short := servers(b)
	body := review(b)
	size := webhook.size(b, body)
	long := *short
	long.name, long.path = "as long", "/"+strconv.Itoa(size)
	tell("a review of %d bytes, an answer of %d", len(body), size)
	for _, http2 := range []bool{false, true} {
		version := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[http2]
		for _, inFlight := range []int{1, 4, 16, 64, 256, 512} {
			b.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(version, "/", ""), inFlight), func(b *testing.B) {
				all := inTurns(b, []*server{short, &long, webhook}, http2, inFlight, body)
				each := make([]float64, len(all))
				for i, r := range all {
					tell("%s, %3d in flight, %-8s %s", version, inFlight, r.of, r.line())
					each[i] = float64(r.each())
				}
				tell("%s, %3d in flight: %.2f times the CPU of a constant answer, %.2f times of one as long", version, inFlight, each[2]/each[0], each[2]/each[1])
			})
		}
	}
}

// inTurns measures each server for its time in three turns, and adds up what it saw.
func inTurns(tb testing.TB, servers []*server, http2 bool, inFlight int, body []byte) []*result {
	tb.Helper()
	const turns = 3
	all := make([]*result, len(servers))
	for range turns {
		for i, s := range servers {
			r := s.closed(tb, http2, inFlight, body, seconds(tb)/turns)
			if r.failed > 0 || r.good == 0 {
				tb.Errorf("%s: %d requests failed, %d were answered", s.name, r.failed, r.good)
			}
			if all[i] == nil {
				all[i] = &result{of: s.name}
			}
			all[i].add(r)
		}
	}
	return all
}

// BenchmarkOverload sends up to three times what can be answered. The client has the same cores and
// is slow itself, and reviews that wait for nothing are over before others begin, so that the queue
// is there and in the kernel: nothing is lost, and afterwards all is as before.
func BenchmarkOverload(t *testing.B) {
	webhook, _ := servers(t)
	body := review(t)
	most := webhook.closed(t, false, 16, body, seconds(t))
	capacity := float64(most.good) / most.took.Seconds()
	client := clientOf(false, 900) // of the 1,000 that are let in
	defer client.CloseIdleConnections()
	for _, part := range []float64{.25, .5, .8, 1.5, 3, .25} {
		r := webhook.open(t, client, capacity*part, body)
		tell("%.2f times what it takes (%.0f/s): %s", part, capacity, r.line())
		if r.failed > 0 || part < .5 && r.busy+r.later > 0 {
			t.Errorf("%.2f times what it takes: of %d requests %d got no answer, %d a 429, %d a 503", part, r.planned, r.failed, r.busy, r.later)
		}
	}
}

// BenchmarkTurnedAway fills the one place that is there with reviews that wait: the policy does not
// list the ServiceAccount, so its ConfigMap is read once more, in turns of 50 ms.
func BenchmarkTurnedAway(t *testing.B) {
	webhook, _ := servers(t, "--max-in-flight=1")
	client := clientOf(false, 200)
	defer client.CloseIdleConnections()
	refusing := *webhook
	refusing.fresh = false
	r := refusing.open(t, client, 1000, of(review(t), "default", "other"))
	tell("1,000 a second, of which one may wait at once: %s", r.line())
	if r.failed+r.later > 0 || r.busy == 0 || r.good == 0 {
		t.Errorf("%d failed, %d got a 503; %d got a 429, %d an answer", r.failed, r.later, r.busy, r.good)
	}
	after := webhook.closed(t, false, 1, review(t), seconds(t))
	tell("and one after the other again: %s", after.line())
	if after.failed+after.busy+after.later > 0 || after.good == 0 {
		t.Errorf("afterwards: %d failed, %d got a 429, %d a 503", after.failed, after.busy, after.later)
	}
}

// BenchmarkFlood sends Pods of ServiceAccounts that nobody knows: each is asked for at the API
// server, within bounds. Others must not notice, nor, where it floods one Namespace, who has to be
// asked for in another.
func BenchmarkFlood(t *testing.B) {
	webhook, _ := servers(t)
	unknown := *webhook
	unknown.fresh = false
	client := clientOf(false, 100)
	defer client.CloseIdleConnections()
	alone := webhook.open(t, client, 100, review(t))
	tell("100 a second alone: %s", alone.line())
	for _, namespaces := range []int{1, 40} {
		stop := unknown.flood(t, namespaces)
		time.Sleep(time.Second)
		var outsider *result
		var beside sync.WaitGroup
		if namespaces == 1 {
			beside.Go(func() { outsider = unknown.open(t, client, 10, of(review(t), "elsewhere", "unknown")) })
		}
		during := webhook.open(t, client, 100, review(t))
		beside.Wait()
		flood := stop()
		tell("100 a second during a flood of %d Namespaces (%s): %s", namespaces, flood.line(), during.line())
		if during.failed+during.busy+during.later > 0 || during.good == 0 || flood.failed > 0 || flood.later == 0 {
			t.Errorf("%d failed, %d got a 429, %d a 503; of the flood %d failed and %d got a 503", during.failed, during.busy, during.later, flood.failed, flood.later)
		}
		if outsider != nil && (outsider.failed+outsider.busy+outsider.later > 0 || outsider.good == 0) {
			t.Errorf("of those who had to be asked for elsewhere %d failed, %d got a 429, %d a 503", outsider.failed, outsider.busy, outsider.later)
		}
	}
}

// flood keeps 400 reviews of unknown ServiceAccounts in flight until it is told to stop.
func (s *server) flood(tb testing.TB, namespaces int) (stop func() *result) {
	tb.Helper()
	client := clientOf(false, 400)
	begin, before := time.Now(), cpu(tb, s.pid)
	done := make(chan struct{})
	var group sync.WaitGroup
	var mu sync.Mutex
	var total result
	for i := range 400 {
		body := of(review(tb), fmt.Sprintf("shop-%d", i%namespaces), "unknown")
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				sent := time.Now()
				status, err := s.one(tb.Context(), client, body)
				mu.Lock()
				total.count(status, err, time.Since(sent))
				mu.Unlock()
				if status != http.StatusOK {
					time.Sleep(100 * time.Millisecond) // it is no test of the client's cores
				}
			}
		})
	}
	return func() *result {
		close(done)
		group.Wait()
		client.CloseIdleConnections()
		total.took, total.cpu = time.Since(begin), cpu(tb, s.pid)-before
		return &total
	}
}

// of is a review of a Pod of another Namespace and ServiceAccount.
func of(body []byte, namespace, account string) []byte {
	body = bytes.Replace(body, []byte(`"api-sa"`), strconv.AppendQuote(nil, account), 1)
	return bytes.ReplaceAll(body, []byte(`"namespace":"default"`), fmt.Appendf(nil, `"namespace":%q`, namespace))
}

// TestTenThousandConnections: silent ones, half-open ones, ones that send a byte a second. An
// API server's own go on being answered, so do its new ones, and memory stays in its bound.
func TestTenThousandConnections(t *testing.T) {
	webhook, _ := servers(t)
	body := review(t)
	kept := clientOf(false, 4)
	_, err := webhook.one(t.Context(), kept, body)
	must(t, err)
	idle := memory(t, webhook.pid)
	for name, open := range map[string]func(conn net.Conn){
		"half-open": func(net.Conn) {},
		"silent": func(conn net.Conn) {
			_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context())
		},
		"slow": func(conn net.Conn) {
			c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			_ = c.HandshakeContext(t.Context())
			for _, letter := range "POST /mutate/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n" {
				if _, err := c.Write([]byte(string(letter))); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		crowd := crowdOf(t, webhook.address, 10_000, open)
		answered, slowest := 0, time.Duration(0)
		for i := range 50 {
			client := kept
			if i%2 == 0 {
				client = clientOf(false, 1)
			}
			start := time.Now()
			if status, err := webhook.one(t.Context(), client, body); err != nil || status != http.StatusOK {
				t.Errorf("%s: request %d: %d, %v", name, i, status, err)
			} else {
				answered++
			}
			slowest = max(slowest, time.Since(start))
			if client != kept {
				client.CloseIdleConnections()
			}
		}
		used := memory(t, webhook.pid)
		t.Logf("10,000 %s connections: %d of 50 requests answered, the slowest in %s; %d MiB, %d MiB before", name, answered, slowest.Round(time.Millisecond), used>>20, idle>>20)
		const limit = 128 << 20 // the chart's
		if used > limit {
			t.Errorf("%d MiB", used>>20)
		}
		crowd()
	}
}

// crowdOf opens connections from ten addresses and keeps them as long as they are let.
func crowdOf(tb testing.TB, address string, n int, do func(net.Conn)) (leave func()) {
	tb.Helper()
	var mu sync.Mutex
	var conns []net.Conn
	var group sync.WaitGroup
	var next atomic.Int64
	for worker := range 50 {
		group.Go(func() {
			for int(next.Add(1)) <= n {
				dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+worker%10))}}
				conn, err := dialer.DialContext(tb.Context(), "tcp", address)
				if err != nil {
					continue
				}
				mu.Lock()
				conns = append(conns, conn)
				mu.Unlock()
				_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				if n > 0 {
					go do(conn)
				}
			}
		})
	}
	group.Wait()
	if len(conns) < n/2 {
		tb.Errorf("only %d connections could be opened", len(conns))
	}
	return func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

// servers are a replica of the webhook in a lab, and the constant one.
func servers(tb testing.TB, flags ...string) (webhook, fixed *server) {
	tb.Helper()
	tb.Setenv("GOMEMLIMIT", strconv.Itoa(128<<20/10*9)) // as the chart has it
	l, err := lab.Start(tb.Context(), lab.Options{LogDir: os.Getenv("LOG_DIR")})
	must(tb, err)
	tb.Cleanup(func() { must(tb, l.Stop()) })
	for _, name := range []string{"api-sa", "other"} { // the policy lists the first
		must(tb, l.Client.Create(tb.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}))
	}
	must(tb, l.Client.Create(tb.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "policies", Labels: map[string]string{"bucket-access.io/policies": "true"}},
		Data: map[string]string{"orders": "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
			"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: default, serviceAccount: api-sa}]\n"},
	}))
	replica, err := l.StartReplica(tb.Context(), "loaded", append(flags, "--log-level=info")...)
	must(tb, err)
	webhook = &server{name: "webhook", address: replica.Address(), path: "/mutate/pods", pid: replica.PID(), fresh: true}
	host, _, err := net.SplitHostPort(replica.Address())
	must(tb, err)
	fixed = &server{name: "constant", address: net.JoinHostPort(host, "9999"), path: "/"}
	command := exec.CommandContext(tb.Context(), "/proc/self/exe")
	command.Env = append(os.Environ(), envConstant+"="+fixed.address)
	command.Stderr = os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(tb, command.Start())
	tb.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	fixed.pid = command.Process.Pid
	for _, s := range []*server{webhook, fixed} {
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if _, err := s.one(tb.Context(), clientOf(false, 1), review(tb)); err == nil {
				break
			} else if time.Now().After(deadline) {
				tb.Fatalf("%s: %v", s.name, err)
			}
		}
	}
	return webhook, fixed
}

// review is of a typical Pod: 3 containers and an init container of 20 variables each, with
// what kubectl and the API server add.
func review(tb testing.TB) []byte {
	tb.Helper()
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", GenerateName: "orders-api-7d9c8b5f4-", Labels: map[string]string{"app": "orders-api", "bucket-access.io/policy": "orders"},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:spec":{` + strings.TrimSuffix(strings.Repeat(`"k:{\"name\":\"VARIABLE\"}":{".":{},"f:name":{},"f:value":{}},`, 180), ",") + `}}`),
			}},
		},
		Spec: corev1.PodSpec{ServiceAccountName: "api-sa"},
	}
	for i := range 4 {
		c := corev1.Container{Name: fmt.Sprintf("container-%d", i), Image: "registry.example.com/shop/orders-api:v1.2.3"}
		for n := range 20 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("SOME_VARIABLE_%d", n), Value: "a value of some length, as they have"})
		}
		if i == 0 {
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		} else {
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	text, err := json.Marshal(p)
	must(tb, err)
	return fmt.Appendf(nil, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"0b4d4bd1-2d2b-4d5f-9b0b-1f6c8b3c9a77","operation":"CREATE",`+
		`"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},"namespace":"default","object":%s}}`, text)
}

// memory is what a process has resident, in bytes.
func memory(tb testing.TB, pid int) int64 {
	tb.Helper()
	size, err := lab.Memory(pid, "VmRSS")
	must(tb, err)
	return size
}

// cpu is what a process has used.
func cpu(tb testing.TB, pid int) time.Duration {
	tb.Helper()
	used, err := lab.CPU(pid)
	must(tb, err)
	return used
}

// tell prints a line of a table, of which a benchmark's own log would be cut.
func tell(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
