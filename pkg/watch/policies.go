package watch

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Policies keeps the policy store in step with the ConfigMaps.
type Policies struct {
	Store *policy.Store
	// Documents are the ConfigMaps as they are known, Uncached reads them live; Writer writes the
	// last good documents.
	Documents    *Documents
	Uncached     client.Reader
	Writer       client.Writer
	Namespace    string // the webhook's own
	LastGoodName string // the ConfigMap of last good documents
	Limit        *rate.Limiter
	Recorder     *metrics.Recorder
	Reporter     *Reporter
	Cluster      *Cluster
	Log          logr.Logger

	flight      singleflight.Group
	loaded      atomic.Pointer[versions] // of the snapshot in force
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
	p.Documents.changed = p.Again
	if err := mgr.Add(p.Documents); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).Named("policies").
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false), SkipNameValidation: ptr.To(true)}).
		WatchesRawSource(source.Func(func(
			_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request],
		) error {
			p.mu.Lock()
			p.queue = queue
			p.mu.Unlock()
			queue.Add(everything) // also where there is no ConfigMap: nothing is a state too
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
	if !p.Documents.Known() {
		return reconcile.Result{}, nil // it is called again when they are
	}
	configMaps, lastGood := p.sort(p.Documents.Items())
	records := p.records(lastGood)
	next, before := p.Store.Update(configMaps, records)
	p.loaded.Store(versionsOf(configMaps, lastGood))
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
