package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/go-logr/logr"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Policies keeps the policy store in step with the ConfigMaps.
type Policies struct {
	Store *policy.Store
	// Cached and Uncached read ConfigMaps; Writer writes the last good documents.
	Cached, Uncached client.Reader
	Writer           client.Writer
	Namespace        string // the webhook's own
	LastGoodName     string // the ConfigMap of last good documents
	Limit            *rate.Limiter
	Recorder         *metrics.Recorder
	Reporter         *Reporter
	Cluster          *Cluster
	Log              logr.Logger

	flight      singleflight.Group
	mu          sync.Mutex
	subscribers []func(changed []string)
	queue       workqueue.TypedRateLimitingInterface[reconcile.Request]
}

// Subscribe calls f with the names of the policies that changed, after each change.
// Call it before the manager starts.
func (p *Policies) Subscribe(f func(changed []string)) { p.subscribers = append(p.subscribers, f) }

// Snapshot is the snapshot in force; nil before the first.
func (p *Policies) Snapshot() *policy.Snapshot { return p.Store.Snapshot() }

// everything is the one request: policies are read all together.
var everything = reconcile.Request{NamespacedName: client.ObjectKey{Name: "policies"}}

// Register adds the controller to the manager. It runs on every replica.
func (p *Policies) Register(mgr ctrl.Manager) error {
	toEverything := func(context.Context, client.Object) []reconcile.Request { return []reconcile.Request{everything} }
	return ctrl.NewControllerManagedBy(mgr).Named("policies").
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false), SkipNameValidation: ptr.To(true)}).
		Watches(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(toEverything)).
		WatchesRawSource(source.Func(func(
			ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request],
		) error {
			p.mu.Lock()
			p.queue = queue
			p.mu.Unlock()
			queue.Add(everything) // also where there is no ConfigMap: nothing is a state too
			go func() {
				select {
				case <-mgr.Elected(): // the leader reports what it has seen before
					p.Again()
				case <-ctx.Done():
				}
			}()
			return nil
		})).
		Complete(p)
}

// Again makes the policies be read and reported once more.
func (p *Policies) Again() {
	p.mu.Lock()
	queue := p.queue
	p.mu.Unlock()
	if queue != nil {
		queue.Add(everything)
	}
}

// Reconcile reads all ConfigMaps from the cache into the store, reports what is
// wrong with them, and has the cluster remember last good documents.
func (p *Policies) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	configMaps, lastGood, err := p.list(ctx, p.Cached)
	if err != nil {
		return reconcile.Result{}, err
	}
	records := p.records(lastGood)
	next, before := p.Store.Update(configMaps, records)
	p.Reporter.Report(next, p.Cluster.Facts())
	changed := changes(next, before)
	if len(changed) > 0 {
		p.Log.Info("Policies loaded", "policies", len(next.Entries()), "changed", len(changed))
		for _, tell := range p.subscribers {
			tell(changed)
		}
	}
	return reconcile.Result{}, p.remember(ctx, next, records, lastGood)
}

// Live reads the policies from the API server, for a request that names one which
// the cache does not have. Concurrent callers share one read; beyond the limit
// there is none.
func (p *Policies) Live(ctx context.Context) (*policy.Snapshot, error) {
	snapshot, err, _ := p.flight.Do("policies", func() (any, error) {
		if !p.Limit.Allow() {
			p.Recorder.LiveRead("policies", metrics.Limited)
			return nil, errors.New("too many reads at once")
		}
		configMaps, lastGood, err := p.list(ctx, p.Uncached)
		if err != nil {
			p.Recorder.LiveRead("policies", metrics.Failed)
			return nil, err
		}
		p.Recorder.LiveRead("policies", metrics.Succeeded)
		return policy.Build(configMaps, p.records(lastGood), p.Store.Snapshot()), nil
	})
	if err != nil {
		return nil, err
	}
	live, _ := snapshot.(*policy.Snapshot)
	return live, nil
}

// list returns the ConfigMaps that hold policies, and the one of last good documents.
func (p *Policies) list(ctx context.Context, from client.Reader) ([]policy.ConfigMap, *corev1.ConfigMap, error) {
	var list corev1.ConfigMapList
	if err := from.List(ctx, &list, client.InNamespace(p.Namespace), client.MatchingLabelsSelector{Selector: policyConfigMaps()}); err != nil {
		return nil, nil, fmt.Errorf("listing policy ConfigMaps in namespace %s: %w", p.Namespace, err)
	}
	var configMaps []policy.ConfigMap
	var lastGood *corev1.ConfigMap
	for i := range list.Items {
		item := &list.Items[i]
		switch {
		case item.Name == p.LastGoodName:
			lastGood = item
		case item.Labels[v1alpha1.LabelPolicies] == v1alpha1.PoliciesTrue:
			configMaps = append(configMaps, convert(item))
		}
	}
	return configMaps, lastGood, nil
}

func convert(item *corev1.ConfigMap) policy.ConfigMap {
	return policy.ConfigMap{
		Namespace: item.Namespace, Name: item.Name, UID: string(item.UID), Created: item.CreationTimestamp.Time,
		Version: version(item), Data: item.Data, BinaryKeys: slices.Sorted(maps.Keys(item.BinaryData)),
	}
}

// version is the resourceVersion as a number. Kubernetes guarantees since 1.35 that
// those of one resource compare so, and every etcd-backed server before did it.
func version(item *corev1.ConfigMap) uint64 {
	number, err := strconv.ParseUint(item.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return number
}

// changes are the names whose policy in force is another one than before.
func changes(next, before *policy.Snapshot) []string {
	var names []string
	for _, entry := range next.Entries() {
		if previous, known := before.Lookup(entry.Name); !known || previous.Policy != entry.Policy {
			names = append(names, entry.Name)
		}
	}
	for _, entry := range before.Entries() {
		if _, still := next.Lookup(entry.Name); !still {
			names = append(names, entry.Name)
		}
	}
	return names
}

// Ready says whether a first snapshot was taken.
func (p *Policies) Ready() bool { return p.Store.Snapshot() != nil }

// Lookup finds an entry of the snapshot in force.
func (p *Policies) Lookup(name string) (*policy.Entry, bool) { return p.Store.Snapshot().Lookup(name) }
