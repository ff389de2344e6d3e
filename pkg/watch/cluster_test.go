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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
)

// empty is an API server that has nothing.
type empty struct{ client.Reader }

func (empty) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

// A crowd of Pods of ServiceAccounts that nobody knows, in whatever namespaces, leaves half of
// the requests in flight to the others.
func TestNotAllMayWaitForTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting, crowd = 10, 200
		cluster := NewCluster(NewAccountIndex(), NewNamespaceIndex(), empty{}, LiveReads{PerSecond: .1, Waiting: waiting},
			metrics.New(prometheus.NewRegistry()), decide.Cluster{})
		read := func(i int) error {
			_, _, err := cluster.LiveServiceAccount(t.Context(), fmt.Sprintf("namespace-%d", i%3), "unknown")
			return err
		}
		for i := range 3 {
			if err := read(i); err != nil { // the burst
				t.Fatal(err)
			}
		}
		var group sync.WaitGroup
		var mu sync.Mutex
		answered, turnedAway := 0, 0
		for i := range crowd {
			group.Go(func() {
				began := time.Now()
				err := read(i)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					answered++
				case errors.Is(err, errWaiting) && time.Since(began) == 0:
					turnedAway++
				default:
					t.Errorf("after %s: %v", time.Since(began), err)
				}
			})
		}
		group.Wait()
		if answered != waiting || turnedAway != crowd-waiting {
			t.Errorf("%d answered, %d turned away", answered, turnedAway)
		}
		if err := read(0); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
