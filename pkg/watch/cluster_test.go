package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// empty is an API server that has nothing.
type empty struct{ client.Reader }

func (empty) List(context.Context, client.ObjectList, ...client.ListOption) error { return nil }

func (empty) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

// crowd has so many read at once in the namespaces, and counts who is turned away without waiting.
func crowd(tb testing.TB, read func(i int) error, n int) (answered, turnedAway func() int, group *sync.WaitGroup) {
	tb.Helper()
	var mu sync.Mutex
	var good, away int
	count := func(of *int) func() int {
		return func() int {
			mu.Lock()
			defer mu.Unlock()
			return *of
		}
	}
	group = &sync.WaitGroup{}
	for i := range n {
		group.Go(func() {
			began := time.Now()
			err := read(i)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				good++
			case errors.Is(err, errWaiting) && time.Since(began) == 0:
				away++
			default:
				tb.Errorf("after %s: %v", time.Since(began), err)
			}
		})
	}
	return count(&good), count(&away), group
}

func slowCluster(waiting int64) *Cluster {
	return NewCluster(NewAccountIndex(), NewNamespaceIndex(), empty{}, LiveReads{PerSecond: .1, Waiting: waiting},
		metrics.New(prometheus.NewRegistry()), decide.Cluster{})
}

func (c *Cluster) askFor(ctx context.Context, namespace string) error {
	_, _, err := c.LiveServiceAccount(ctx, namespace, "unknown")
	return err
}

// A crowd of Pods of ServiceAccounts that nobody knows, in whatever namespaces, leaves half of
// the requests in flight to the others.
func TestNotAllMayWaitForTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting = 40
		cluster := slowCluster(2 * waiting) // the other half is for policies
		read := func(i int) error { return cluster.askFor(t.Context(), fmt.Sprintf("namespace-%d", i%40)) }
		answered, turnedAway, group := crowd(t, read, 1000)
		synctest.Wait()
		atOnce := answered() // the burst
		if away := turnedAway(); away != 1000-waiting-atOnce {
			t.Errorf("%d were turned away, %d were answered at once", away, atOnce)
		}
		group.Wait()
		if answered() != waiting+atOnce {
			t.Errorf("%d were answered", answered())
		}
		if err := read(0); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// A tenant that floods waits for itself.
func TestOneNamespaceKeepsNoOtherFromTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := slowCluster(80)
		if err := cluster.askFor(t.Context(), "flooding"); err != nil {
			t.Fatal(err)
		}
		_, turnedAway, group := crowd(t, func(i int) error {
			if i%2 == 0 {
				return cluster.askFor(t.Context(), "flooding")
			}
			_, _, err := cluster.PodsWithout(t.Context(), "flooding", "", "orders")
			return err
		}, 1000)
		synctest.Wait()
		if away := turnedAway(); away != 990 {
			t.Errorf("%d were turned away", away)
		}
		if err := cluster.askFor(t.Context(), "another"); err != nil {
			t.Errorf("another namespace: %v", err)
		}
		if _, _, err := cluster.PodsWithout(t.Context(), "third", "", "orders"); err != nil {
			t.Errorf("a list of Pods: %v", err)
		}
		group.Wait()
	})
}

// podList is an API server that has Pods.
type podList struct {
	client.Reader

	items []metav1.PartialObjectMetadata
	asked client.ListOptions
}

func (p *podList) List(_ context.Context, into client.ObjectList, options ...client.ListOption) error {
	p.asked.ApplyOptions(options)
	list, _ := into.(*metav1.PartialObjectMetadataList)
	list.Items, list.Continue = p.items, "more"
	return nil
}

// Of a Namespace's Pods, those that a ServiceAccount's label or their own speaks for are not its
// label's to change; nor are those that nobody can restart.
func TestPodsThatPredateALabel(t *testing.T) {
	marked, mirror, ending := podOf("a", "marked", "", "", "", ""), podOf("a", "mirror", "", "", "", ""), podOf("a", "ending", "", "", "", "")
	marked.Labels["bucket-access.io/serviceaccount-policy"] = "x"
	mirror.Annotations["kubernetes.io/config.mirror"] = "x"
	ending.DeletionTimestamp = &metav1.Time{}
	live := &podList{items: []metav1.PartialObjectMetadata{
		*podOf("a", "plain", "", "", "", ""), *podOf("a", "former", "other", decide.FromNamespace, "1", "sa"),
		*podOf("a", "own", "other", decide.FromPod, "1", "sa"), *podOf("a", "account", "other", decide.FromServiceAccount, "1", "sa"), *marked, *mirror, *ending,
	}}
	cluster := NewCluster(NewAccountIndex(), NewNamespaceIndex(), live, LiveReads{PerSecond: 10, Waiting: 10}, metrics.New(prometheus.NewRegistry()), decide.Cluster{})
	pods, more, err := cluster.PodsWithout(t.Context(), "a", "", "orders")
	if pods != 2 || !more || err != nil {
		t.Errorf("%d, %t, %v", pods, more, err)
	}
	want := "bucket-access.io/injected!=orders,!bucket-access.io/policy,!bucket-access.io/serviceaccount-policy"
	if got := live.asked; got.Namespace != "a" || got.LabelSelector.String() != want || got.FieldSelector.String() != alive().String() {
		t.Errorf("asked for %s, %s in %q", got.LabelSelector, got.FieldSelector, got.Namespace)
	}
	if pods, _, err := cluster.PodsWithout(t.Context(), "a", "sa", "orders"); pods != 5 || err != nil {
		t.Errorf("of a ServiceAccount: %d, %v", pods, err)
	}
	if got := live.asked.FieldSelector.String(); got != alive().String()+",spec.serviceAccountName=sa" {
		t.Errorf("asked for %s", got)
	}
}

// TestPoliciesHaveRoomOfTheirOwn: of those who wait for a younger one not all may, and Pods of
// unknown ServiceAccounts take none of it.
func TestPoliciesHaveRoomOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cluster := slowCluster(20)
		policies := &Policies{
			Store: &policy.Store{}, Uncached: empty{}, Namespace: "system", Cluster: cluster, Recorder: metrics.New(prometheus.NewRegistry()),
			Limit: rate.NewLimiter(.5, 1),
		}
		policies.Store.Update(nil, nil)
		policies.loaded.Store(&versions{})
		live := func(int) error {
			_, err := policies.Live(t.Context(), "orders")
			return err
		}
		_, _, others := crowd(t, func(i int) error { return cluster.askFor(t.Context(), fmt.Sprintf("namespace-%d", i%40)) }, 500)
		synctest.Wait()
		if err := live(0); err != nil { // the one that may be at once
			t.Error(err)
		}
		answered, turnedAway, group := crowd(t, live, 100)
		synctest.Wait()
		if turnedAway() != 90 {
			t.Errorf("%d were turned away", turnedAway())
		}
		group.Wait()
		if answered() != 10 {
			t.Errorf("%d were answered", answered())
		}
		others.Wait()
	})
}
