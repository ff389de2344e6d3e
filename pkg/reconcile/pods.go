package reconcile

import (
	"context"
	"slices"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// Pods counts, for each policy, what already runs: Pods that have what the policy says, that
// have what it said before, that should have been injected and are not, and that may no longer
// be. A Pod can't be changed, so all there is to do is to tell.
//
// It looks at classes of Pods at intervals, not at each change: the cost is that of what
// differs, whatever the number of Pods and the pace at which they come and go.
type Pods struct {
	Index      *watch.PodIndex // empty where this replica does not lead
	Accounts   *watch.AccountIndex
	Namespaces *watch.NamespaceIndex
	Policies   Policies
	Facts      func() decide.Cluster
	Leading    func() bool
	// Excluded are the namespaces that the admission entries leave alone.
	Excluded []string
	// Read reads the ServiceAccounts of a Namespace's Pods into Index.
	Read     func(ctx context.Context, namespace string) error
	Recorder *metrics.Recorder
	Log      logr.Logger

	read  map[string]time.Time // when Read was last called for a Namespace
	lists int                  // of Index, when read was last cleared
}

const (
	countInterval = 5 * time.Second
	// accountsInterval is how often Pods of one Namespace are listed at most, and accountsAtOnce
	// of how many Namespaces in a row. Both only while there are Pods that a policy
	// may concern and whose ServiceAccount is unknown.
	accountsInterval = 30 * time.Second
	accountsAtOnce   = 20
)

// Register adds it to the manager. It runs on every replica, and counts on the leader.
func (p *Pods) Register(mgr ctrl.Manager) error {
	p.read = map[string]time.Time{}
	return mgr.Add(p)
}

// NeedLeaderElection is false: the leader is not the manager's own.
func (*Pods) NeedLeaderElection() bool { return false }

// Start counts until ctx ends.
func (p *Pods) Start(ctx context.Context) error {
	ticker := time.NewTicker(countInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			p.tick(ctx)
		}
	}
}

func (p *Pods) tick(ctx context.Context) {
	if !p.Leading() || !p.Index.Synced() { // who leads may not know yet, or no more, that it does
		p.Recorder.Pods(nil) // the leader's count is the one that counts
		return
	}
	if lists := p.Index.Lists(); lists != p.lists {
		p.lists = lists
		clear(p.read) // what was read is to be read again
	}
	if !p.Policies.Ready() || !p.Accounts.Synced() || !p.Namespaces.Synced() {
		return
	}
	counts, unknown := p.count()
	if p.learn(ctx, unknown) {
		counts, _ = p.count()
	}
	p.Recorder.Pods(counts)
}

// learn reads the ServiceAccounts of Pods, and says whether it has read any.
func (p *Pods) learn(ctx context.Context, namespaces map[string]bool) bool {
	learnt := 0
	now := time.Now()
	for namespace, at := range p.read {
		if now.Sub(at) >= accountsInterval {
			delete(p.read, namespace)
		}
	}
	for namespace := range namespaces {
		if _, recently := p.read[namespace]; recently || learnt == accountsAtOnce {
			continue
		}
		p.read[namespace] = now
		learnt++
		if err := p.Read(ctx, namespace); err != nil {
			p.Log.Error(err, "Pods whose ServiceAccount is unknown are not counted", "namespace", namespace)
		}
	}
	return learnt > 0
}

// count judges every class, and returns the Namespaces in which ServiceAccounts must be
// known to judge further ones.
func (p *Pods) count() (counts metrics.PodCounts, unknown map[string]bool) {
	counts, unknown = metrics.PodCounts{}, map[string]bool{}
	cluster := p.Facts()
	p.Index.Classes(func(class watch.PodClass, pods int) {
		if slices.Contains(p.Excluded, class.Namespace) {
			return
		}
		if policy, state := p.injected(class); state != "" {
			counts.Add(policy, state, pods)
		}
		policy, missing, known := p.uninjected(class, cluster)
		if missing {
			counts.Add(policy, metrics.PodsUninjected, pods)
		}
		if !known {
			unknown[class.Namespace] = true
		}
	})
	return counts, unknown
}

// injected judges what was injected by the policy as it is now. While the ServiceAccount is
// unknown, one of its Namespace that is listed keeps it from being revoked.
func (p *Pods) injected(class watch.PodClass) (policy string, state metrics.PodState) {
	if class.Injected == "" {
		return "", ""
	}
	entry, exists := p.Policies.Lookup(class.Injected)
	switch {
	case !exists:
		// Anybody can write a Pod's label: a name that is no policy's never becomes a label of a metric.
		return v1alpha1.PolicyNone, metrics.PodsRevoked
	case entry.Policy == nil:
		return "", "" // nothing is in force to judge by, which is told elsewhere
	case class.Account == "" && !entry.Policy.Subjects.Reach(class.Namespace),
		class.Account != "" && !entry.Policy.Subjects.Allow(class.Namespace, class.Account):
		return entry.Name, metrics.PodsRevoked
	case class.Hash != entry.Policy.Hash:
		return entry.Name, metrics.PodsOutdated
	}
	return entry.Name, metrics.PodsCurrent
}

// uninjected says which policy a new Pod of the class would get and this one lacks; known is
// false where that can't be told without its ServiceAccount.
func (p *Pods) uninjected(class watch.PodClass, cluster decide.Cluster) (policy string, missing, known bool) {
	namespace, _ := p.Namespaces.Label(class.Namespace)
	switch {
	case class.Account == "" && class.Injected != "":
		return "", false, false // injected by an older version, which did not record it
	case class.Asked == decide.Label{Value: v1alpha1.PolicyNone, Set: true}:
		return "", false, true
	case !class.Asked.Set && !class.Marked && !namespace.Set && p.Accounts.Labelled(class.Namespace) == 0:
		return "", false, true
	case class.Account == "":
		return "", false, false
	}
	account, _ := p.Accounts.View(class.Namespace, class.Account)
	verdict := decide.Pod(decide.PodRequest{
		Namespace: class.Namespace, ServiceAccount: class.Account,
		OnPod: class.Asked, OnServiceAccount: account.Policy, OnNamespace: namespace,
	}, p.Policies, cluster)
	return verdict.PolicyName, verdict.Kind == decide.Inject && verdict.PolicyName != class.Injected, true
}
