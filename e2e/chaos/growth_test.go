package chaos

import (
	"context"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// What the replica that lives through the run may hold more at its end than at its
// beginning, both settled and without load. A leak for each change of a policy or each Pod
// would be hundreds or thousands; the API server keeps 25 idle connections for each of its
// clients, and how many are left varies. Go's heap breathes by its headroom, 16 MiB, and what
// was freed goes back to the kernel by and by.
const (
	moreGoroutines  = 60
	moreDescriptors = 40
	moreMemory      = 32 << 20
)

// settled stops the load, waits for what is under way and measures the oldest replica: the
// least of a few samples.
func (l *load) settled(ctx context.Context) (least lab.Usage, err error) {
	l.paused.Lock()
	defer l.paused.Unlock()
	time.Sleep(5 * time.Second)
	for i := range 5 {
		now, err := l.oldest().Usage(ctx)
		if err != nil {
			return now, err
		}
		if i == 0 {
			least = now
		}
		least.Goroutines, least.Descriptors = min(least.Goroutines, now.Goroutines), min(least.Descriptors, now.Descriptors)
		least.Resident = min(least.Resident, now.Resident)
		time.Sleep(500 * time.Millisecond)
	}
	return least, nil
}

func (c *chaos) wantNoGrowth(first, last lab.Usage) {
	if more := last.Goroutines - first.Goroutines; more > moreGoroutines {
		c.broken("%d goroutines more than in the beginning", more)
	}
	if more := last.Descriptors - first.Descriptors; more > moreDescriptors {
		c.broken("%d file descriptors more than in the beginning", more)
	}
	if more := last.Resident - first.Resident; more > moreMemory {
		c.broken("%d MiB of memory more than in the beginning", more>>20)
	}
}
