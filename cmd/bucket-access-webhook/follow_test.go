package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// TestWhileLeading: nothing is followed before all else is ready, by one leader's time at once; what
// a list took is given back, and nothing is known when the time is over.
func TestWhileLeading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := watch.NewPodIndex()
		notReady := errors.New("not ready")
		var followed, over, givenBack, returned int
		lead := whileLeading(func() error { return notReady }, pods, func(ctx context.Context) {
			followed++
			time.Sleep(time.Second) // the list
			put, take := pods.Anew()
			put(&metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "orders"}})
			take()
			<-ctx.Done()
			time.Sleep(time.Second)
			over++
		}, func() { givenBack++ })
		elected := func() (lost context.CancelFunc) {
			ctx, lost := context.WithCancel(t.Context())
			go func() {
				lead(ctx)
				returned++
			}()
			return lost
		}
		want := func(when string, after time.Duration, wantFollowed, wantOver, wantGivenBack, wantPods int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			known := 0
			pods.Classes(func(_ watch.PodClass, n int) { known += n })
			if followed != wantFollowed || over != wantOver || givenBack != wantGivenBack || known != wantPods || pods.Synced() != (wantPods > 0) {
				t.Fatalf("%s: followed %d times, %d over, given back %d times, %d Pods, synced %t; want %d, %d, %d, %d", when,
					followed, over, givenBack, known, pods.Synced(), wantFollowed, wantOver, wantGivenBack, wantPods)
			}
		}
		lost := elected()
		want("while others are not ready", time.Minute, 0, 0, 0, 0)
		lost()
		notReady = nil
		want("elected and lost before that", time.Minute, 0, 0, 0, 0)

		lost = elected()
		want("while the list comes", time.Second/2, 1, 0, 0, 0)
		want("with the list", time.Second, 1, 0, 1, 1)
		lostAgain := elected()
		want("elected again, before the first time is over", time.Minute, 1, 0, 1, 1)
		lost()
		want("with the last Pods of the first time gone", 3*time.Second/2, 2, 1, 1, 0)
		want("with the second list", time.Second, 2, 1, 2, 1)

		lostAtOnce := elected()
		lostAtOnce()
		want("elected and lost while another's time goes on", time.Minute, 2, 1, 2, 1)
		if returned != 3 {
			t.Errorf("%d of 4 times are over, want the three that were lost", returned)
		}
		lostAgain()
		want("after all", time.Minute, 2, 2, 2, 0)
	})
}
