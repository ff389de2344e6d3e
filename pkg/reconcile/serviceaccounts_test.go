package reconcile

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func newQueue(tb testing.TB) queue {
	tb.Helper()
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	tb.Cleanup(q.ShutDown)
	return q
}

// drain takes what is queued.
func drain(q queue) (names []string) {
	for q.Len() > 0 {
		request, _ := q.Get()
		q.Done(request)
		names = append(names, request.String())
	}
	slices.Sort(names)
	return names
}

func account(namespace, name, policy, version string) *metav1.PartialObjectMetadata {
	object := watch.ServiceAccount()
	object.Namespace, object.Name, object.UID, object.ResourceVersion = namespace, name, types.UID(name), version
	if policy != "" {
		object.Labels = map[string]string{"bucket-access.io/policy": policy}
	}
	return object
}

func TestOnlyWhatAPolicyConcernsIsQueued(t *testing.T) {
	q, leading := newQueue(t), true
	s := &ServiceAccounts{Accounts: watch.NewAccountIndex(), Leading: func() bool { return leading }, Excluded: []string{"kube-system"}}
	s.Accounts.OnChange(func(name types.NamespacedName) { s.enqueue(name) })
	queued := func(when string, want ...string) {
		t.Helper()
		if got := drain(q); !slices.Equal(got, want) {
			t.Errorf("%s: queued are %v; want %v", when, got, want)
		}
	}
	relist(s.Accounts, account("shop", "api-sa", "orders", "1"), account("shop", "second", "other", "2"), account("shop", "plain", "", "3"),
		account("kube-system", "api-sa", "orders", "4"))
	s.policiesChanged([]string{"orders"})
	s.begin(q)
	queued("what was there before the controller began", "shop/api-sa", "shop/second")
	s.Accounts.Put(account("shop", "plain", "", "5"))
	s.Accounts.Put(account("kube-system", "api-sa", "other", "6"))
	queued("changes of what is not concerned")
	s.Accounts.Put(account("shop", "second", "other", "7"))
	s.Accounts.Put(account("shop", "api-sa", "", "8"))
	queued("a change, and a label that goes", "shop/api-sa", "shop/second")
	s.policiesChanged([]string{"orders", "other", "third"})
	queued("policies change", "shop/second")
	leading = false
	s.Accounts.Put(account("shop", "second", "other", "9"))
	s.policiesChanged([]string{"other"})
	s.All()
	queued("on a follower")
	leading = true
	s.All()
	queued("on a new leader", "shop/second")
}

// TestNothingThatIsConcernedIsMissed: in whatever order lists, events, leadership and the
// controller's beginning come, in the end each labelled ServiceAccount was reconciled as it is.
func TestNothingThatIsConcernedIsMissed(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2))
		q, leading, begun := newQueue(t), false, false
		s := &ServiceAccounts{Accounts: watch.NewAccountIndex(), Leading: func() bool { return leading }}
		s.Accounts.OnChange(func(name types.NamespacedName) { s.enqueue(name) })
		now, seen := map[string]*metav1.PartialObjectMetadata{}, map[string]string{}
		change := func(version int) *metav1.PartialObjectMetadata {
			object := account("shop", fmt.Sprint("account-", random.IntN(6)), []string{"", "orders"}[random.IntN(2)], fmt.Sprint(version))
			now[object.Name] = object
			return object
		}
		work := func() {
			for _, name := range drain(q) {
				name = strings.TrimPrefix(name, "shop/")
				if object, found := s.Accounts.Object(types.NamespacedName{Namespace: "shop", Name: name}); found && leading {
					seen[name] = object.ResourceVersion
				}
			}
		}
		lead := func() { leading = true; s.All() }
		for version := range 60 {
			switch random.IntN(12) {
			case 0:
				lead()
			case 1:
				leading = false
			case 2:
				if !begun {
					begun = true
					s.begin(q)
				}
			case 3:
				for n := range random.IntN(4) {
					change(1000*version + n)
				}
				relist(s.Accounts, slices.Collect(maps.Values(now))...)
			case 4, 5:
				work()
			default:
				s.Accounts.Put(change(1000 * version))
			}
		}
		if !begun {
			s.begin(q)
		}
		if !leading {
			lead()
		}
		work()
		for name, object := range now {
			if len(object.Labels) > 0 && seen[name] != object.ResourceVersion {
				t.Fatalf("seed %d: %s was reconciled at version %q; it is at %s", seed, name, seen[name], object.ResourceVersion)
			}
		}
	}
}
