package load

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// BenchmarkLoad tells requests a second, CPU of each and latencies, from one in flight to twice of
// what is let in, beside a constant answer. Both come short and long: a Pod that asks for nothing is
// answered shortly, and one that is injected by a patch, which has to be encrypted and sent. All take
// turns. It fails where a request is lost or answered wrong.
func BenchmarkLoad(b *testing.B) {
	webhook, short := servers(b, "--enable-http2")
	body := review(b)
	long, bystander := *short, *webhook
	long.name, long.path = "as long", "/"+strconv.Itoa(webhook.size(b, body))
	bystander.name, bystander.path, bystander.right = "nothing", "/mutate/serviceaccount-pods", unpatched
	bystander.body = bytes.Replace(body, []byte(`,"bucket-access.io/policy":"orders"`), nil, 1)
	tell("a review of %d bytes; answers of %d bytes where a Pod is injected, of %d where it asks for nothing", len(body), webhook.size(b, body), bystander.size(b, bystander.body))
	for _, http2 := range []bool{false, true} {
		version := protocol(http2)
		for _, inFlight := range []int{1, 4, 16, 64, 256, 512} {
			b.Run(fmt.Sprintf("%s/%d", version, inFlight), func(b *testing.B) {
				all := inTurns(b, []*server{short, &bystander, &long, webhook}, http2, inFlight, body)
				each := make([]float64, len(all))
				for i, r := range all {
					tell("%s, %3d in flight, %-8s %s", version, inFlight, r.of, r.line())
					each[i] = float64(r.each())
				}
				tell("%s, %3d in flight: a Pod that asks for nothing takes %.2f times the CPU of a short constant; one that is injected %.2f times that of one as long, and %.2f times of the short one",
					version, inFlight, each[1]/each[0], each[3]/each[2], each[3]/each[0])
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
			asked := body
			if s.body != nil {
				asked = s.body
			}
			r := s.closed(tb, http2, inFlight, asked, seconds(tb)/turns)
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
// is there and in the kernel: nothing is lost, and afterwards all is as before. Over HTTP/2, which is
// off by default, it tells only: thousands of bodies share a connection, and come too late.
func BenchmarkOverload(b *testing.B) {
	webhook, _ := servers(b, "--enable-http2")
	body := review(b)
	for _, http2 := range []bool{false, true} {
		b.Run(protocol(http2), func(b *testing.B) {
			most := webhook.closed(b, http2, 16, body, seconds(b))
			capacity := float64(most.good) / most.took.Seconds()
			client := clientOf(http2, 900) // of the 1,000 that are let in
			defer client.CloseIdleConnections()
			webhook.open(b, client, capacity, body) // opens connections, which takes milliseconds of both
			for _, part := range []float64{.25, .5, .8, 1.5, 3, .25} {
				r := webhook.open(b, client, capacity*part, body)
				tell("%s: %.2f times what it takes (%.0f/s): %s", protocol(http2), part, capacity, r.line())
				if !http2 && (r.failed > 0 || part < .5 && r.busy+r.later > 0) {
					b.Errorf("%.2f times what it takes: of %d requests %d got no answer (%s), %d a 429, %d a 503", part, r.planned, r.failed, r.why, r.busy, r.later)
				}
			}
		})
	}
}

func protocol(http2 bool) string {
	if http2 {
		return "HTTP2"
	}
	return "HTTP1.1"
}

// BenchmarkTurnedAway fills the one place that is there with reviews that wait: the policy does not
// list the ServiceAccount, so its ConfigMap is read once more, in turns of 50 ms.
func BenchmarkTurnedAway(t *testing.B) {
	webhook, _ := servers(t, "--max-in-flight=1")
	client := clientOf(false, 200)
	defer client.CloseIdleConnections()
	refusing := *webhook
	refusing.right = nil
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
	unknown.right = nil
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
