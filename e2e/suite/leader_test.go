package suite

import (
	"errors"
	"regexp"
	"strconv"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestTheLeaderAloneWatchesPods counts watches on the API server's side, while one replica leads,
// while none does, and after the leader was killed: the next one counts the Pods that the other has
// counted.
func TestTheLeaderAloneWatchesPods(t *testing.T) {
	l, _, labelled := faultLab(t)
	clients, err := kubernetes.NewForConfig(l.Config)
	must(t, err)
	watches := func() int {
		text, err := clients.RESTClient().Get().AbsPath("/metrics").DoRaw(testContext(t))
		must(t, err)
		found := regexp.MustCompile(`(?m)^apiserver_longrunning_requests\{.*resource="pods",scope="cluster",.*verb="WATCH",.*\} (\d+)$`).FindSubmatch(text)
		if found == nil {
			return 0
		}
		number, err := strconv.Atoi(string(found[1]))
		must(t, err)
		return number
	}
	others := watches()                                // the API server's own
	soon := func(what string, condition func() bool) { // a Lease that nobody gave back has to end first
		t.Helper()
		ctx, cancel := contextFor(time.Minute)
		defer cancel()
		must(t, until(ctx, what, func() error {
			if condition() {
				return nil
			}
			return errors.New("not yet")
		}))
	}
	var replicas []*lab.Replica
	for _, name := range []string{"one", "two"} {
		r, err := l.StartReplica(testContext(t), name)
		must(t, err)
		replicas = append(replicas, r)
	}
	for _, name := range []string{"a", "b"} {
		must(t, l.Client.Create(testContext(t), pod(labelled, name)))
	}
	counts := func(r *lab.Replica) int { return podCountsOf(t, r, "faults")["current"] }
	soon("counted by one replica", func() bool { return counts(replicas[0])+counts(replicas[1]) == 2 })
	soon("watched once", func() bool { return watches() == others+1 })

	// The Lease is somebody else's, as long as it takes.
	soon("watched and counted by nobody", func() bool {
		var lease coordinationv1.Lease
		must(t, l.Client.Get(testContext(t), client.ObjectKey{Namespace: lab.Namespace, Name: lab.Name}, &lease))
		lease.Spec.HolderIdentity, lease.Spec.RenewTime = ptr.To("nobody"), ptr.To(metav1.NowMicro())
		_ = l.Client.Update(testContext(t), &lease) // a conflict comes again
		return watches() == others && counts(replicas[0])+counts(replicas[1]) == 0
	})
	soon("counted by one alone again", func() bool { return counts(replicas[0])+counts(replicas[1]) == 2 && watches() == others+1 })

	leader, other := replicas[0], replicas[1]
	if counts(other) > 0 {
		leader, other = other, leader
	}
	leader.Kill()
	must(t, l.Client.Create(testContext(t), pod(labelled, "c")))
	soon("counted by the other", func() bool { return counts(other) == 3 })
	soon("watched once", func() bool { return watches() == others+1 })
}
