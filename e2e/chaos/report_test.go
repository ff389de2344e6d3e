package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// report is what a run has shown, as tables for docs/reliability.md.
type report struct {
	*chaos
	load        *load
	counts      map[*fault]int
	first, last lab.Usage
	took        time.Duration
}

func (r report) print(w io.Writer) {
	l := r.load
	fmt.Fprintf(w, "\nCHAOS_SEED=%d, %s, %d replicas one after the other\n\n", r.seed, r.took.Round(time.Second), r.started)
	fmt.Fprintln(w, "| Pods that ask by | created | refused | p50 | p99 | slowest |\n|---|---|---|---|---|---|")
	for _, by := range ways {
		refused := 0
		for key, n := range l.refused {
			if key.way == by {
				refused += n
			}
		}
		fmt.Fprintf(w, "| %s | %d | %d | %s | %s | %s |\n", by, l.created[by], refused, milliseconds(quantile(l.took[by], .5)),
			milliseconds(quantile(l.took[by], .99)), milliseconds(l.slowest[by]))
	}
	fmt.Fprintln(w, "\n| fault | times | Pods created during it | refused |\n|---|---|---|---|")
	for _, f := range slices.Concat([]*fault{calm}, faults, []*fault{stalled}) {
		times := fmt.Sprint(r.counts[f])
		switch f {
		case calm:
			times = ""
		case stalled:
			times = fmt.Sprint(len(r.history.stalls))
		}
		fmt.Fprintf(w, "| %s | %s | %d | %s |\n", f.name, times, l.inFaults[f.name], r.refusedDuring(f))
	}
	fmt.Fprintln(w, "\n| invariant | |\n|---|---|")
	fmt.Fprintf(w, "| Pods created | %d, and %d whose answer or deletion was lost |\n", l.total(), l.found)
	fmt.Fprintf(w, "| without injection, or of mixed versions, or injected unasked | %d |\n", l.unlike)
	fmt.Fprintf(w, "| made right after their ServiceAccount, before the API server's own policies had seen it | %d of %d |\n",
		l.missed, l.created[byFresh])
	fmt.Fprintf(w, "| with a policy older than a second | %d |\n", l.stale)
	c := &r.changes
	fmt.Fprintf(w, "| policy changed, broken, mended | %d, %d, %d times; broken for up to %s |\n",
		c.written, c.broken, c.mended, c.last.Round(time.Millisecond))
	fmt.Fprintf(w, "| from a change until every replica had it, without a fault: p50, p99, slowest | %s, %s, %s |\n",
		milliseconds(quantile(c.spread, .5)), milliseconds(quantile(c.spread, .99)), milliseconds(quantile(c.spread, 1)))
	fmt.Fprintf(w, "| goroutines, first and last | %d, %d |\n| descriptors | %d, %d |\n| resident memory | %d MiB, %d MiB |\n",
		r.first.Goroutines, r.last.Goroutines, r.first.Descriptors, r.last.Descriptors, r.first.Resident>>20, r.last.Resident>>20)
	fmt.Fprintf(w, "| leader to be killed had its Lease stolen only, as it was the one to live | %d times |\n| invariants broken | %d times |\n\n",
		r.spared, len(r.breaches))
}

// refusedDuring counts refusals of one fault by kind.
func (r report) refusedDuring(f *fault) string {
	kinds := map[kind]int{}
	for key, n := range r.load.refused {
		if key.fault == f.name {
			kinds[key.kind] += n
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[k], k))
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, ", ")
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.0f ms", d.Seconds()*1000) }
