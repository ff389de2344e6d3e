package load

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server is what is measured: a process that answers at an address.
type server struct {
	name, address string
	path          string
	pid           int
	body          []byte            // what it is asked, where that is not what others are
	right         func([]byte) bool // says whether an answer is; nil is any
}

// result of a measurement.
type result struct {
	of           string
	took         time.Duration
	good, failed int
	why          string // the first failed
	busy, later  int    // 429 and 503
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

// patched and unpatched say whether the webhook's answer injects a Pod.
func patched(answer []byte) bool   { return bytes.Contains(answer, []byte(`"patch"`)) }
func unpatched(answer []byte) bool { return !patched(answer) }

// one sends a request; an error is what is no answer.
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
	if err == nil && s.right != nil && response.StatusCode == http.StatusOK && !s.right(text) {
		return 0, fmt.Errorf("a wrong answer: %.200s", text) //nolint:err113 // for a person
	}
	return response.StatusCode, err
}

// size is the length of the answer.
func (s *server) size(tb testing.TB, body []byte) int {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "https://"+s.address+s.path, bytes.NewReader(body))
	must(tb, err)
	request.Header.Set("Content-Type", "application/json")
	client := clientOf(false, 1)
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	must(tb, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(tb, err)
	if response.StatusCode != http.StatusOK {
		tb.Fatalf("%s: %.200s", response.Status, text)
	}
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
		r.why = cmp.Or(r.why, fmt.Sprintf("%d %v", status, err))
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
