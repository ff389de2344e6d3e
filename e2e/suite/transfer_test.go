package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	corev1 "k8s.io/api/core/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const gibibyte = 1 << 30

// large writes an object of 1 GiB, of which no two blocks are alike; file holds the same.
func (a *access) large(tb testing.TB) (sum [sha256.Size]byte, file *os.File) {
	tb.Helper()
	file, err := os.Create(filepath.Join(tb.TempDir(), "large"))
	must(tb, err)
	tb.Cleanup(func() { _ = file.Close() })
	source := rand.NewChaCha8([32]byte{1})
	hash := sha256.New()
	_, err = io.CopyN(io.MultiWriter(file, hash), source, gibibyte)
	must(tb, err)
	_, err = file.Seek(0, io.SeekStart)
	must(tb, err)
	key := "large.bin"
	_, err = a.b.S3.PutObject(testContext(tb), &s3.PutObjectInput{Bucket: &a.policy.Bucket, Key: &key, Body: file})
	must(tb, err)
	return [sha256.Size]byte(hash.Sum(nil)), file
}

// TestAGibibyteIsStreamedInLittleMemory: all of its bytes, never more than 64 MiB of
// memory, also with 200 clients at once. The reader's speed beside the SDK's own is
// measured by make bench.
func TestAGibibyteIsStreamedInLittleMemory(t *testing.T) {
	a := newAccess(t)
	want, file := a.large(t)
	r := a.reader(t, a.pod(t, "app"), nil)
	_, err := r.Report(testContext(t))
	must(t, err)
	hash := sha256.New()
	n, err := fetch(testContext(t), r, "/s3/large.bin", hash)
	if err != nil || n != gibibyte || [sha256.Size]byte(hash.Sum(nil)) != want {
		t.Fatalf("%d bytes, %v, or others than were written", n, err)
	}
	var clients sync.WaitGroup
	failures := make(chan error, 200)
	for i := range 200 {
		clients.Go(func() {
			const length = 4 << 20
			from := int64(i) * (gibibyte / 200)
			got := sha256.New()
			_, err := fetch(testContext(t), r, "/s3/large.bin", got, "Range", fmt.Sprintf("bytes=%d-%d", from, from+length-1))
			want := sha256.New()
			_, _ = io.Copy(want, io.NewSectionReader(file, from, length))
			if err != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				failures <- fmt.Errorf("client %d got other bytes than were written, or: %w", i, err)
			}
		})
	}
	clients.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	peak, err := r.PeakMemory()
	must(t, err)
	if t.Logf("the reader's memory reached %d MiB", peak>>20); peak > 64<<20 || peak < 8<<20 {
		t.Errorf("the reader's memory reached %d MiB", peak>>20)
	}
}

// fetch reads a path to its end.
func fetch(ctx context.Context, r *lab.ReaderProcess, path string, into io.Writer, headers ...string) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Address+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusPartialContent {
		text, _ := io.ReadAll(answer.Body)
		return 0, fmt.Errorf("HTTP %d: %s", answer.StatusCode, text)
	}
	return io.Copy(into, answer.Body)
}

// TestS3KilledInTheMiddle: the transfer breaks, and never ends early as if it were whole;
// S3's return is found again.
func TestS3KilledInTheMiddle(t *testing.T) {
	a := newAccess(t)
	a.large(t)
	r := a.reader(t, a.pod(t, "app"), nil, "--probe-interval=1s")
	_, err := r.Report(testContext(t))
	must(t, err)
	killed := &killer{at: 100 << 20, kill: func() { a.b.Kill("s3") }}
	n, err := fetch(testContext(t), r, "/s3/large.bin", killed)
	if err == nil || n >= gibibyte || !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%d bytes, %v: no broken transfer", n, err)
	}
	if status, body, err := r.Get(testContext(t), "/s3/config.json"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("while S3 is away: %d %s %v", status, body, err)
	}
	must(t, a.b.Start(testContext(t), "s3"))
	eventually(t, "S3 is found again", func() bool {
		status, _, err := r.Get(testContext(t), "/s3/config.json")
		return err == nil && status == http.StatusOK
	})
	eventually(t, "access is proven again", func() bool {
		status, _, err := r.Get(testContext(t), "/readyz")
		return err == nil && status == http.StatusOK
	})
}

// killer is a client that brings something about when it has read enough.
type killer struct {
	at, n int
	kill  func()
}

func (k *killer) Write(p []byte) (int, error) {
	if k.n += len(p); k.kill != nil && k.n > k.at {
		k.kill()
		k.kill = nil
	}
	return len(p), nil
}

// shortSessions passes requests on to the real STS and says of its sessions that they last
// so long: AWS's shortest one takes a quarter of an hour.
type shortSessions struct {
	sts    string
	last   time.Duration
	mutex  sync.Mutex
	tokens []string // web identity tokens that were traded
}

var expiration = regexp.MustCompile(`<Expiration>[^<]*</Expiration>`)

func (s *shortSessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	request, _ := http.NewRequestWithContext(r.Context(), r.Method, s.sts+r.URL.RequestURI(), strings.NewReader(string(body)))
	request.Header, request.Host = r.Header.Clone(), r.Host
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if _, token, ok := strings.Cut(string(body), "WebIdentityToken="); ok {
		s.mutex.Lock()
		s.tokens = append(s.tokens, strings.SplitN(token, "&", 2)[0])
		s.mutex.Unlock()
		end := time.Now().Add(s.last).UTC().Format(time.RFC3339)
		text = expiration.ReplaceAll(text, []byte("<Expiration>"+end+"</Expiration>"))
	}
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text)
}

// TestRenewalLosesNoRequest: sessions end and are renewed, the token is replaced, and
// clients that never pause lose nothing.
func TestRenewalLosesNoRequest(t *testing.T) {
	a := newAccess(t)
	proxy := &shortSessions{sts: a.b.STSURL, last: 62 * time.Second} // renewed a minute before the end: every 2 s
	address := serveOnLoopback(t, proxy)
	p := a.pod(t, "app", annotation("eks.amazonaws.com/token-expiration", "600"))
	r := a.reader(t, p, func(start *lab.PodStart) { start.SetEnv("AWS_ENDPOINT_URL_STS", address) }, "--probe-interval=1s")
	_, err := r.Report(testContext(t))
	must(t, err)
	var requests atomic.Int64
	var clients sync.WaitGroup
	failures := make(chan error, 1000)
	stop := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				requests.Add(1)
				var got bytes.Buffer
				if _, err := fetch(testContext(t), r, "/s3/config.json", &got); err != nil || !bytes.Equal(got.Bytes(), a.content) {
					failures <- fmt.Errorf("%d bytes, %w", got.Len(), err)
				}
			}
		})
	}
	for range 8 {
		time.Sleep(time.Second)
		must(t, r.ReplaceToken(testContext(t)))
	}
	close(stop)
	clients.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	proxy.mutex.Lock()
	defer proxy.mutex.Unlock()
	different := slices.Compact(slices.Sorted(slices.Values(proxy.tokens)))
	if len(different) < 3 || requests.Load() < 100 {
		t.Errorf("%d sessions by %d tokens, %d requests prove little", len(proxy.tokens), len(different), requests.Load())
	}
	t.Logf("%d requests, %d sessions by %d tokens", requests.Load(), len(proxy.tokens), len(different))
}

// TestAJobsPodKeepsItsShape: the sidecar is native, so a Pod that should end can.
func TestAJobsPodKeepsItsShape(t *testing.T) {
	a := newAccess(t, "reader: {inject: true, gate: Startup}")
	p := a.pod(t, "job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
	sidecar := p.Spec.InitContainers[0]
	if len(p.Spec.InitContainers) != 1 || sidecar.RestartPolicy == nil || *sidecar.RestartPolicy != corev1.ContainerRestartPolicyAlways ||
		sidecar.StartupProbe == nil || sidecar.LivenessProbe != nil || len(p.Spec.Containers) != 1 {
		t.Errorf("%+v", sidecar)
	}
}
