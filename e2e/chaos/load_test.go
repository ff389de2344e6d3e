package chaos

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// timeout is that of the entries that Pods are created through: no bystander may take as
// long. None is called for them at all, so this is ample.
const timeout = 10 * time.Second

// load creates Pods without pause, each way by a controller's client of its own.
type load struct {
	*chaos
	paused sync.RWMutex // held while nothing is created
	group  sync.WaitGroup

	mutex    sync.Mutex
	created  map[way]int
	found    int // Pods that were created though the answer was lost
	refused  map[refusal]int
	slowest  map[way]time.Duration
	took     map[way][]time.Duration
	stale    int
	missed   int // made right after their ServiceAccount, which the API server's own policies had not seen
	unlike   int // without injection, or injected though they did not ask
	inFaults map[string]int
}

func newLoad(c *chaos) *load {
	return &load{chaos: c, created: map[way]int{}, refused: map[refusal]int{}, slowest: map[way]time.Duration{},
		took: map[way][]time.Duration{}, inFaults: map[string]int{}}
}

// newClient has connections of its own, as each controller's process has.
func newClient(config *rest.Config) (client.Client, error) {
	config = rest.CopyConfig(config)
	config.Dial = (&net.Dialer{Timeout: 30 * time.Second}).DialContext // another dialer, another connection
	config.Timeout = time.Minute
	return client.New(config, client.Options{})
}

func (l *load) start(ctx context.Context) error {
	for _, w := range ways {
		controller, err := newClient(l.lab.Config)
		if err != nil {
			return err
		}
		l.group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				l.paused.RLock()
				ok := l.create(context.WithoutCancel(ctx), controller, w, fmt.Sprint(n))
				l.paused.RUnlock()
				if ok {
					time.Sleep(10 * time.Millisecond)
				} else {
					time.Sleep(100 * time.Millisecond) // a controller tries again, and not at once
				}
			}
		})
	}
	return nil
}

// create creates one Pod, judges it and takes it away; ok is false when it was refused.
func (l *load) create(ctx context.Context, controller client.Client, w way, name string) (ok bool) {
	p := l.newPod(w, name)
	if w == byFresh || w == byLater {
		account := freshAccount(p)
		if err := controller.Create(ctx, account); err != nil {
			return false // an entry that is not called lets it pass: this is the API server's own
		}
		defer func() { _ = controller.Delete(ctx, account) }()
	}
	if w == byLater {
		time.Sleep(250 * time.Millisecond)
	}
	begin := time.Now()
	err := controller.Create(ctx, p)
	end := time.Now()
	l.note(w, begin, end, err)
	if err != nil {
		return false
	}
	l.judge(w, p, begin, end)
	_ = controller.Delete(ctx, p, &client.DeleteOptions{Raw: atOnce()}) // what is left is swept
	return true
}

// note counts one attempt.
func (l *load) note(w way, begin, end time.Time, err error) {
	during := l.history.during(begin, end)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if err != nil {
		r := refusal{way: w, kind: kindOf(err), fault: during.fault.name}
		l.refused[r]++
		if !during.allows(r.kind, w, begin) {
			l.broken("refused: %s, by %s, during %q (%s after its begin): %v", r.kind, w, r.fault, begin.Sub(during.begin).Round(time.Millisecond), err)
		}
		return
	}
	l.created[w]++
	l.inFaults[during.fault.name]++
	l.took[w] = append(l.took[w], end.Sub(begin))
	if during.fault.down {
		return
	}
	l.slowest[w] = max(l.slowest[w], end.Sub(begin))
	if !w.asks() && end.Sub(begin) > timeout {
		l.broken("a bystander (%s) took %s during %q", w, end.Sub(begin), during.fault.name)
	}
}

// judge holds a Pod to what it asked for, and to the versions of the policy that may
// have been in force.
func (l *load) judge(w way, p *corev1.Pod, begin, end time.Time) {
	what, version := lacks(w, p)
	if what != "" && w == byFresh && !l.history.webhook && l.seenLater(w, p) {
		l.mutex.Lock()
		l.missed++
		l.mutex.Unlock()
		l.t.Logf("%s missed: %s came before the news of its ServiceAccount, during %q", end.Format(time.TimeOnly), p.Name, l.history.during(begin, end).fault.name)
		return
	}
	if what != "" {
		l.mutex.Lock()
		l.unlike++
		l.mutex.Unlock()
		l.broken("by %s, during %q: a Pod lacks %s", w, l.history.during(begin, end).fault.name, what)
		return
	}
	if !w.asks() || w == bySteady {
		return
	}
	if newest := l.ledger.newest(); version > newest {
		l.broken("a Pod has version %d, and only %d was written", version, newest)
	}
	aSecondAgo := begin.Add(-time.Second)
	old := ""
	if seen := l.ledger.seenEverywhere(begin, aSecondAgo); version < seen {
		old = fmt.Sprintf("every replica had %d", seen)
	}
	if acked := l.ledger.acknowledged(aSecondAgo); version < acked.version && !l.history.delayed(acked.at, begin) {
		old = fmt.Sprintf("%d was acknowledged %s before", acked.version, begin.Sub(acked.at))
	}
	if old != "" {
		l.mutex.Lock()
		l.stale++
		l.mutex.Unlock()
		l.broken("by %s, during %q: a Pod has version %d, but %s", w, l.history.during(begin, end).fault.name, version, old)
	}
}

// seenLater says whether a Pod that was let in untouched is injected when it is created again
// within a second: an API server's admission policies learn of ServiceAccounts by a watch, and
// for a Pod that comes before the news neither the mark is set nor the backstop judges.
func (l *load) seenLater(w way, p *corev1.Pod) bool {
	if _, marked := p.Labels["bucket-access.io/serviceaccount-policy"]; marked {
		return false
	}
	return until(context.Background(), "seen", time.Second, func() string {
		again := l.newPod(w, "again")
		again.Spec.ServiceAccountName = p.Spec.ServiceAccountName
		if err := l.lab.Client.Create(context.Background(), again, client.DryRunAll); err != nil {
			return err.Error()
		}
		what, _ := lacks(w, again)
		return what
	}) == nil
}

// sweep judges and takes away the Pods that are left: those whose creation was not
// answered, or whose deletion was not.
func (l *load) sweep(ctx context.Context) error {
	for _, namespace := range []string{l.plain, l.labelled} {
		var pods corev1.PodList
		if err := l.lab.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return err
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			if what, _ := lacks(wayOf(p), p); what != "" {
				l.unlike++
				l.broken("by %s: a Pod that was left, created %s, lacks %s", wayOf(p), p.CreationTimestamp.Format(time.TimeOnly), what)
			}
			l.found++
			if err := l.lab.Client.Delete(ctx, p, &client.DeleteOptions{Raw: atOnce()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// total is the number of Pods that were created.
func (l *load) total() (n int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for _, created := range l.created {
		n += created
	}
	return n
}

// quantile of durations, which it sorts.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(q*float64(len(all))))]
}
