package watch

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// How long a replica waits before it asks an API server again that did not answer, or ended a
// watch. After some failures, such as those while a control plane is restarted, client-go waits
// for up to a minute, in which a policy is as old; ours are few and small, and are asked for at
// least each second. Of other kinds an answer may be large.
var (
	soon = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Cap: 800 * time.Millisecond, Jitter: .25, Steps: 10}
	less = wait.Backoff{Duration: 400 * time.Millisecond, Factor: 2, Cap: 5 * time.Second, Jitter: .5, Steps: 10}
)

// answered is how long a list, or the beginning of a watch, may take: where packets get lost, a
// connection is dead for up to 45 s before that is found out.
const answered = 5 * time.Second

// Documents are the ConfigMaps of policies and of last good documents, as the API server last
// told of them.
type Documents struct {
	client  typedcorev1.ConfigMapInterface
	store   cache.Store
	known   atomic.Bool
	changed func()
	log     logr.Logger
}

// NewDocuments are those of a namespace.
func NewDocuments(client typedcorev1.ConfigMapInterface, log logr.Logger) *Documents {
	return &Documents{client: client, store: cache.NewStore(cache.MetaNamespaceKeyFunc), changed: func() {}, log: log}
}

// Known says whether all have been seen once.
func (d *Documents) Known() bool { return d.known.Load() }

// Items are those that are known. Nothing of them may be changed: they are not copied.
func (d *Documents) Items() []*corev1.ConfigMap {
	objects := d.store.List()
	items := make([]*corev1.ConfigMap, 0, len(objects))
	for _, object := range objects {
		if item, ok := object.(*corev1.ConfigMap); ok {
			items = append(items, item)
		}
	}
	return items
}

// NeedLeaderElection is false: every replica decides by them.
func (*Documents) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (d *Documents) Start(ctx context.Context) error {
	selector := policyConfigMaps().String()
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			ctx, cancel := context.WithTimeout(ctx, answered)
			defer cancel()
			return d.client.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.LabelSelector = selector
			return d.watch(ctx, options)
		},
	}, semantics{})
	ctx = klog.NewContext(ctx, sparing(d.log))
	cache.NewReflectorWithOptions(source, &corev1.ConfigMap{}, &documentStore{d.store, d},
		cache.ReflectorOptions{Name: "configmaps", Backoff: &soon, Logger: &d.log}).RunWithContext(ctx)
	return nil
}

// watch begins one, unless that takes too long.
func (d *Documents) watch(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(answered, cancel)
	defer late.Stop()
	w, err := d.client.Watch(ctx, options)
	if err != nil {
		cancel()
		return nil, err
	}
	return endingWatch{w, cancel}, nil
}

// endingWatch ends its context with it.
type endingWatch struct {
	apiwatch.Interface

	end context.CancelFunc
}

// Stop is called by the reflector in any case.
func (w endingWatch) Stop() {
	w.Interface.Stop()
	w.end()
}

// documentStore is filled by client-go's reflector, and tells of each change.
type documentStore struct {
	cache.Store

	of *Documents
}

// Transformer is for lists that are streamed, all of which are held before any is told.
func (*documentStore) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return lean(object), nil }
}

// Add is told of an object.
func (s *documentStore) Add(object any) error { return s.Update(object) }

// Update is told of an object.
func (s *documentStore) Update(object any) error { return s.tell(s.Store.Update(lean(object))) }

// Delete is told of an object that is gone, or not selected any more.
func (s *documentStore) Delete(object any) error { return s.tell(s.Store.Delete(object)) }

// Replace is told of all objects.
func (s *documentStore) Replace(objects []any, version string) error {
	for _, object := range objects {
		lean(object)
	}
	err := s.Store.Replace(objects, version)
	if err == nil {
		s.of.known.Store(true)
	}
	return s.tell(err)
}

func (s *documentStore) tell(err error) error {
	if err == nil {
		s.of.changed()
	}
	return err
}

// lean drops what nobody reads.
func lean(object any) any {
	if item, ok := object.(*corev1.ConfigMap); ok {
		item.ManagedFields = nil
	}
	return object
}
