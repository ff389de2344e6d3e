package chaos

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// kind is why a creation was refused.
type kind string

const (
	broke      kind = "broke in flight"                      // the connection to a replica
	noListener kind = "connection refused"                   // by a replica that is gone, its endpoint is not yet
	timedOut   kind = "timed out"                            // a replica did not answer in time
	noEndpoint kind = "no endpoint known"                    // to an API server that has just started
	unread     kind = "replica could not read"               // what it had to ask the API server for
	serverDown kind = "API server or etcd down"              // not ours
	backstop   kind = "by the backstop"                      // not called, and not let in
	other      kind = "other than docs/reliability.md names" // never allowed
)

// refusal is what refusals are counted by.
type refusal struct {
	way   way
	kind  kind
	fault string
}

// kindOf reads an API server's sentence.
func kindOf(err error) kind {
	said := err.Error()
	has := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(said, text) {
				return true
			}
		}
		return false
	}
	switch ours := has("failed calling webhook"); {
	case ours && has("connection refused"):
		return noListener
	case ours && has("EOF", "connection reset", "broken pipe", "closed network connection", "server closed"):
		return broke
	case ours && has("context deadline exceeded", "Client.Timeout", "timeout"):
		return timedOut
	case ours && has("no endpoints available", "no service port", "not found"):
		return noEndpoint
	case ours:
		return other
	case has("has no bucket access injected"):
		return backstop
	case has("could not read"):
		return unread
	case has("denied the request"):
		return other
	case has("connection refused", "EOF", "connection reset", "http2:", "etcdserver", "not yet ready", "shutting down", "the server is currently unable",
		"initializ", "deadline exceeded", "timeout", "Timeout", "transport is closing", "connection lost", "closed network", "broken pipe",
		"apiserver not ready", "failed to list", "error reading from server", "Internal error occurred"):
		return serverDown
	}
	return other
}

// window is the time of one fault. after is when its consequences must have ended for
// requests that begin later, if that is before the fault is healed.
type window struct {
	fault             *fault
	begin, after, end time.Time
	webhook           bool // the mode for Pods of labelled ServiceAccounts, whose entry ignores failures
}

// grace is what the API server's own watches take to hear of an endpoint.
const grace = time.Second

var calm = &fault{name: "no fault"}

// allows says whether a refusal is allowed in it.
func (w window) allows(k kind, by way, begin time.Time) bool {
	if k == serverDown {
		return w.fault.down
	}
	// The backstop has heard of a ServiceAccount, and what marks its Pods has not: closed, not
	// open, with a fault and without.
	if k == backstop && by == byFresh {
		return true
	}
	if !by.asks() || !w.after.IsZero() && begin.After(w.after.Add(grace)) {
		return false
	}
	if k == backstop && by.byServiceAccount() && w.webhook && w.fault.misses {
		return true
	}
	for _, allowed := range w.fault.allows {
		if allowed == k {
			return true
		}
	}
	return false
}

// history are the faults until now.
type history struct {
	mutex   sync.Mutex
	windows []window
	stalls  []window
	ran     time.Time // when the machine was seen to run
	webhook bool
}

// stalled is what nobody did: a virtual machine that stands still, with all that runs on it.
var stalled = &fault{
	name: "the machine stood still", allows: []kind{broke, noListener, timedOut, noEndpoint, unread}, down: true, delays: true, misses: true,
}

// watchTheMachine notes for how long nothing ran, until ctx ends.
func (h *history) watchTheMachine(ctx context.Context) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	defer h.runs(time.Time{}) // not watched any more, which is no stall
	for h.runs(time.Now()); ; h.runs(time.Now()) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// runs notes that the machine does, and a stall before.
func (h *history) runs(now time.Time) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.stalls = h.stallsUntil(now)
	h.ran = now
}

// stallsUntil are those that were noted, and one that ends now: whoever fails by it may run
// before whoever notes it. A scheduler that has too much to do keeps nobody waiting for that long.
func (h *history) stallsUntil(now time.Time) []window {
	const still = time.Second
	if h.ran.IsZero() || now.Sub(h.ran) < still {
		return h.stalls
	}
	return append(slices.Clip(h.stalls), window{fault: stalled, begin: h.ran, end: now, webhook: h.webhook})
}

func (h *history) begin(f *fault) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.windows = append(h.windows, window{fault: f, begin: time.Now(), webhook: h.webhook})
}

// after says that from now on nothing of the fault that goes on is an excuse.
func (h *history) after() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.windows[len(h.windows)-1].after = time.Now()
}

func (h *history) end() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.windows[len(h.windows)-1].end = time.Now()
}

// during is the last fault that went on at any moment of a request.
func (h *history) during(from, to time.Time) window {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, windows := range [][]window{h.stallsUntil(time.Now()), h.windows} {
		for i := len(windows) - 1; i >= 0; i-- {
			if w := windows[i]; w.begin.Before(to) && (w.end.IsZero() || w.end.Add(grace).After(from)) {
				return w
			}
		}
	}
	return window{fault: calm, begin: from, webhook: h.webhook}
}

// hears is how long after such a fault a replica may take to ask the API server again: a second,
// and the answer.
const hears = 2 * time.Second

// delayed says whether a fault that keeps changes from replicas went on between two times.
func (h *history) delayed(from, to time.Time) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, w := range slices.Concat(h.windows, h.stallsUntil(time.Now())) {
		if w.fault.delays && w.begin.Before(to) && (w.end.IsZero() || w.end.Add(hears).After(from)) {
			return true
		}
	}
	return false
}
