package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// Garbage that may gather before a collection: half of what lives, as Go's own GOGC=100 doubles
// what the indexes of a large cluster take; and no less than leastGarbage, as those of a small
// one are a few MiB, which would be collected after as much of requests. GOMEMLIMIT, where it is
// set, bounds the sum of both.
const (
	leastGarbage = 16 << 20
	// leastLive is the runtime's: a percentage of a smaller heap counts as if it were of this one.
	leastLive = 4 << 20
)

// gcPercent is the GOGC by which that much garbage may gather beside live bytes.
func gcPercent(live uint64) int {
	live = max(live, leastLive)
	return int(max(leastGarbage, live/2) * 100 / live) //nolint:gosec // 50 to 400
}

// headroom sets GOGC anew after each collection. Not changing is cheaper: for that the world
// stops, if for microseconds.
type headroom struct {
	mu      sync.Mutex
	percent int
	set     func(percent int)
}

// keepHeadroom begins to do so. An operator's own GOGC counts instead.
func keepHeadroom() {
	if os.Getenv("GOGC") != "" {
		return
	}
	h := &headroom{set: func(percent int) { debug.SetGCPercent(percent) }}
	h.adjust(marked())
	h.arm()
}

// arm has the next collection adjust: it finds an object that nobody holds.
func (h *headroom) arm() {
	type unheld struct{ _ [64]byte } // smaller ones share memory, and may stay as long as another
	runtime.AddCleanup(&unheld{}, func(h *headroom) {
		h.adjust(marked())
		h.arm()
	}, h)
}

func (h *headroom) adjust(live uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := gcPercent(live)
	if difference := next - h.percent; max(difference, -difference)*10 <= h.percent {
		return
	}
	h.percent = next
	h.set(next)
}

// marked is what the last collection found alive, and the roots, of which GOGC is a percentage.
func marked() (live uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, sample := range samples {
		if sample.Value.Kind() == metrics.KindUint64 {
			live += sample.Value.Uint64()
		}
	}
	return live
}

// manageMemory waits for the first lists of what answers are made from, gives back what they took as they came, and keeps the
// headroom from then on: while what lives grows fast, a percentage of what lived is too much.
func manageMemory(cluster *watch.Cluster, policies *watch.Policies) func(context.Context) error {
	return func(ctx context.Context) error {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for cluster.Ready() != nil || !policies.Ready() {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
		debug.FreeOSMemory()
		keepHeadroom()
		return nil
	}
}
