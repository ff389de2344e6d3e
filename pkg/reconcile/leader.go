package reconcile

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Leader elects one of the replicas: it alone writes ServiceAccounts and Events, and counts Pods. It is not
// the manager's own election on purpose: a manager ends the whole process when it
// loses its Lease, and with it the requests that this replica is answering.
type Leader struct {
	Client          kubernetes.Interface
	Namespace, Name string // of the Lease
	Identity        string
	// Lease, Renew and Retry are as client-go's LeaderElectionConfig has them.
	Lease, Renew, Retry time.Duration
	// Elected is called each time this replica becomes the leader: what it has let
	// pass until then is to be done now. It has a goroutine of its own, and its context ends
	// when another may lead; the next call may come before this one has returned.
	Elected func(ctx context.Context)
	Log     logr.Logger

	elector atomic.Pointer[leaderelection.LeaderElector]
}

// Leading says whether this replica leads now.
func (l *Leader) Leading() bool {
	elector := l.elector.Load()
	return elector != nil && elector.IsLeader()
}

// NeedLeaderElection is false: every replica stands for election.
func (*Leader) NeedLeaderElection() bool { return false }

// Start stands for election again and again until ctx ends, and then gives the
// Lease back so that another replica leads at once.
func (l *Leader) Start(ctx context.Context) error {
	config := leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
			Client:     l.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
		},
		LeaseDuration: l.Lease, RenewDeadline: l.Renew, RetryPeriod: l.Retry, ReleaseOnCancel: true, Name: l.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				l.Log.Info("This replica leads")
				l.Elected(ctx)
			},
			OnStoppedLeading: func() {},
			OnNewLeader:      func(identity string) { l.Log.V(1).Info("Leader seen", "identity", identity) },
		},
	}
	elector, err := leaderelection.NewLeaderElector(config)
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	l.elector.Store(elector)
	for ctx.Err() == nil {
		elector.Run(ctx) // returns when the Lease is lost, too
	}
	return nil
}
