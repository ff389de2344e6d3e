package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	Index    *watch.PodIndex
	Cached   client.Reader
	Policies Policies
	Facts    func() decide.Cluster
	Leading  func() bool
	// Excluded are the namespaces that the admission entries leave alone.
	Excluded []string
	// Accounts reads the ServiceAccounts of a Namespace's Pods into Index.
	Accounts func(ctx context.Context, namespace string) error
	Recorder *metrics.Recorder
	Log      logr.Logger

	read map[string]time.Time // when Accounts was last asked for a Namespace
}

const (
	countInterval = 5 * time.Second
	// accountsInterval is how often Pods of one Namespace are listed at most, and accountsAtOnce
	// of how many Namespaces in a row. Both only while there are Pods that a policy
	// may concern and whose ServiceAccount is unknown.
	accountsInterval = 30 * time.Second
	accountsAtOnce   = 20
)

// labelledField finds the labelled ones among a cluster's many ServiceAccounts.
const labelledField = "labelled"

// Register adds it to the manager. It runs on every replica, and counts on the leader.
func (p *Pods) Register(ctx context.Context, mgr ctrl.Manager) error {
	p.read = map[string]time.Time{}
	labelled := func(object client.Object) []string {
		if _, set := object.GetLabels()[v1alpha1.LabelPolicy]; set {
			return []string{"true"}
		}
		return nil
	}
	if err := mgr.GetFieldIndexer().IndexField(ctx, watch.ServiceAccount(), labelledField, labelled); err != nil {
		return fmt.Errorf("indexing ServiceAccounts: %w", err)
	}
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
	if !p.Leading() {
		p.Recorder.Pods(nil) // the leader's count is the one that counts
		return
	}
	if !p.Policies.Ready() || !p.Index.Synced() {
		return
	}
	counts, unknown, err := p.count(ctx)
	if err == nil && p.learn(ctx, unknown) {
		counts, _, err = p.count(ctx)
	}
	if err != nil {
		p.Log.Error(err, "Pods could not be counted")
		return
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
		if err := p.Accounts(ctx, namespace); err != nil {
			p.Log.Error(err, "Pods whose ServiceAccount is unknown are not counted", "namespace", namespace)
		}
	}
	return learnt > 0
}

// labels are those that stand above Pods.
type labels struct {
	namespaces map[string]decide.Label
	accounts   map[string]map[string]decide.Label // by Namespace, then name
}

func (p *Pods) labels(ctx context.Context) (labels, error) {
	found := labels{map[string]decide.Label{}, map[string]map[string]decide.Label{}}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := p.Cached.List(ctx, list); err != nil {
		return found, fmt.Errorf("listing Namespaces: %w", err)
	}
	for i := range list.Items {
		found.namespaces[list.Items[i].Name] = decide.LabelOf(list.Items[i].Labels, v1alpha1.LabelPolicy)
	}
	list = &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceAccountList"))
	if err := p.Cached.List(ctx, list, client.MatchingFields{labelledField: "true"}); err != nil {
		return found, fmt.Errorf("listing ServiceAccounts: %w", err)
	}
	for i := range list.Items {
		account := &list.Items[i]
		if found.accounts[account.Namespace] == nil {
			found.accounts[account.Namespace] = map[string]decide.Label{}
		}
		found.accounts[account.Namespace][account.Name] = decide.LabelOf(account.Labels, v1alpha1.LabelPolicy)
	}
	return found, nil
}

// count judges every class, and returns the Namespaces in which ServiceAccounts must be
// known to judge further ones.
func (p *Pods) count(ctx context.Context) (counts metrics.PodCounts, unknown map[string]bool, err error) {
	above, err := p.labels(ctx)
	if err != nil {
		return nil, nil, err
	}
	counts, unknown = metrics.PodCounts{}, map[string]bool{}
	cluster := p.Facts()
	p.Index.Classes(func(class watch.PodClass, pods int) {
		if slices.Contains(p.Excluded, class.Namespace) {
			return
		}
		if policy, state := p.injected(class); state != "" {
			counts.Add(policy, state, pods)
		}
		policy, missing, known := p.uninjected(class, above, cluster)
		if missing {
			counts.Add(policy, metrics.PodsUninjected, pods)
		}
		if !known {
			unknown[class.Namespace] = true
		}
	})
	return counts, unknown, nil
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
func (p *Pods) uninjected(class watch.PodClass, above labels, cluster decide.Cluster) (policy string, missing, known bool) {
	accounts, namespace := above.accounts[class.Namespace], above.namespaces[class.Namespace]
	switch {
	case class.Account == "" && class.Injected != "":
		return "", false, false // injected by an older version, which did not record it
	case class.Asked == decide.Label{Value: v1alpha1.PolicyNone, Set: true}:
		return "", false, true
	case !class.Asked.Set && !class.Marked && !namespace.Set && len(accounts) == 0:
		return "", false, true
	case class.Account == "":
		return "", false, false
	}
	verdict := decide.Pod(decide.PodRequest{
		Namespace: class.Namespace, ServiceAccount: class.Account,
		OnPod: class.Asked, OnServiceAccount: accounts[class.Account], OnNamespace: namespace,
	}, p.Policies, cluster)
	return verdict.PolicyName, verdict.Kind == decide.Inject && verdict.PolicyName != class.Injected, true
}
