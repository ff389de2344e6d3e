package chaos

import (
	"testing"
	"time"
)

// TestAMachineThatStandsStillIsAnExcuse for what nobody could answer meanwhile, and for no more.
func TestAMachineThatStandsStillIsAnExcuse(t *testing.T) {
	h := &history{webhook: true}
	begin := time.Now()
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	h.runs(at(-.2))
	h.runs(at(0)) // busy
	h.begin(faults[0])
	h.runs(at(.5))
	h.runs(at(1))
	h.runs(at(9))
	h.runs(time.Time{})
	h.end()
	h.windows[0].end = at(20)
	for _, test := range []struct {
		from, to float64
		fault    *fault
		delayed  bool
	}{{0, .5, faults[0], false}, {.5, 1.5, stalled, true}, {2, 3, stalled, true}, {9.5, 10, stalled, true}, {10.5, 11, faults[0], true}, {11.5, 12, faults[0], false}, {30, 31, calm, false}} {
		w := h.during(at(test.from), at(test.to))
		if w.fault != test.fault || h.delayed(at(test.from), at(test.to)) != test.delayed {
			t.Errorf("from %v s to %v s: %q, delayed %t", test.from, test.to, w.fault.name, !test.delayed)
		}
		if got, want := w.allows(backstop, byAccount, at(test.from)), test.fault == stalled; got != want {
			t.Errorf("from %v s to %v s: a refusal by the backstop is allowed: %t", test.from, test.to, got)
		}
	}
}

// TestAStallIsAnExcuseAtOnce: nobody has noted it yet.
func TestAStallIsAnExcuseAtOnce(t *testing.T) {
	now := time.Now()
	h := &history{ran: now.Add(-5 * time.Second)}
	if w := h.during(now.Add(-3*time.Second), now); w.fault != stalled {
		t.Errorf("during it: %q", w.fault.name)
	}
	h.runs(time.Now())
	if w := h.during(now.Add(-3*time.Second), now); w.fault != stalled || len(h.stalls) != 1 {
		t.Errorf("after it: %q of %d", w.fault.name, len(h.stalls))
	}
}
