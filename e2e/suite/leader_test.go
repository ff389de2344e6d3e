package suite

import (
	"errors"
	"regexp"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestTheLeaderAloneWatchesPods counts watches on the API server's side, before and after the
// leader is killed: the next one counts the Pods that the other has counted.
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
	soon := func(what string, condition func() bool) { // a Lease that nobody gave back is a quarter of a minute's
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
	leader, other := replicas[0], replicas[1]
	if counts(other) > 0 {
		leader, other = other, leader
	}
	if got := watches() - others; got != 1 {
		t.Errorf("Pods are watched %d times by two replicas", got)
	}
	leader.Kill()
	must(t, l.Client.Create(testContext(t), pod(labelled, "c")))
	soon("counted by the other", func() bool { return counts(other) == 3 })
	soon("watched once", func() bool { return watches() == others+1 })
}
