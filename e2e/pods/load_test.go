package pods

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// load creates Pods without pause: asking by each of the three labels, and bystanders.
// They are held by a scheduling gate, so that the node does not decide how many.
type load struct {
	namespaces map[string]string // way of asking → Namespace
	stop       context.CancelFunc
	done       sync.WaitGroup

	created, bystanders, uninjected atomic.Int64

	mutex   sync.Mutex
	refused []string
}

// startLoad makes the Namespaces and starts creating.
func startLoad(t *testing.T) *load {
	t.Helper()
	l := &load{namespaces: map[string]string{
		"pod": newNamespace(t), "serviceaccount": newNamespace(t), "namespace": newNamespace(t, policyLabel, "e2e"), "bystander": newNamespace(t),
	}}
	kubectl(t, "label", "serviceaccount", "-n", l.namespaces["serviceaccount"], "reader", policyLabel+"=e2e")
	for way := range l.namespaces {
		within(t, 20*time.Second, "the label on the "+way+" is in force", func() string {
			p := l.pod(way, 0)
			if err := c.Client.Create(context.Background(), p, client.DryRunAll); err != nil {
				return err.Error()
			}
			return l.wrong(way, p)
		})
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	l.stop = stop
	for way := range l.namespaces {
		l.done.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				l.create(ctx, way, n)
			}
		})
	}
	t.Cleanup(func() { stop(); l.done.Wait() })
	return l
}

func (l *load) pod(way string, n int) *corev1.Pod {
	p := pod(l.namespaces[way], fmt.Sprintf("load-%d", n), func(p *corev1.PodTemplateSpec) {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "bucket-access.test/held"}}
		if way == "pod" {
			p.Labels[policyLabel] = "e2e"
		}
	})
	return p
}

// wrong is what is wrong with a Pod that was let in.
func (l *load) wrong(way string, p *corev1.Pod) string {
	want := "e2e"
	if way == "bystander" {
		want = ""
	}
	if got := injectedWith(p); got != want {
		return fmt.Sprintf("injected with %q, want %q", got, want)
	}
	return ""
}

func (l *load) create(ctx context.Context, way string, n int) {
	p := l.pod(way, n)
	err := c.Client.Create(ctx, p)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		l.mutex.Lock()
		l.refused = append(l.refused, way+": "+err.Error())
		l.mutex.Unlock()
	case l.wrong(way, p) != "":
		l.uninjected.Add(1)
	case way == "bystander":
		l.bystanders.Add(1)
	default:
		l.created.Add(1)
	}
	if err == nil {
		_ = c.Client.Delete(context.WithoutCancel(ctx), p, client.GracePeriodSeconds(0))
	}
	time.Sleep(5 * time.Millisecond)
}

// end stops creating and returns who was refused.
func (l *load) end() []string {
	l.stop()
	l.done.Wait()
	return l.refused
}

// wantNoneLost fails where a Pod was refused, or let in without injection.
func (l *load) wantNoneLost(t *testing.T) {
	t.Helper()
	refused := l.end()
	t.Logf("%d labelled Pods and %d bystanders were created, %d refused, %d without injection",
		l.created.Load(), l.bystanders.Load(), len(refused), l.uninjected.Load())
	if len(refused) > 0 {
		t.Errorf("refused: %s", strings.Join(refused[:min(3, len(refused))], "\n"))
	}
	if l.uninjected.Load() > 0 {
		t.Errorf("%d Pods without injection", l.uninjected.Load())
	}
	if l.created.Load() < 100 || l.bystanders.Load() < 30 {
		t.Errorf("only %d and %d Pods: too few to show anything", l.created.Load(), l.bystanders.Load())
	}
}
