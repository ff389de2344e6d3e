package watch

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// Index keeps of one kind's objects what somebody asks for, in memory that is small beside the
// objects'. It is told of their metadata, and clones the strings that it keeps: the decoder's may
// be part of something larger. One goroutine tells it; many may ask.
type Index interface {
	Put(object *metav1.PartialObjectMetadata)
	Remove(object *metav1.PartialObjectMetadata)
	// Anew makes room for a list of all objects: put is called with each, and then take puts
	// them in the place of all that was known.
	Anew() (put func(object *metav1.PartialObjectMetadata), take func())
}

// Reflector keeps an Index in step with the cluster. It asks for metadata alone.
type Reflector struct {
	Metadata metadata.Interface
	// Calm is asked for what changes, where it is not nil: see there.
	Calm     metadata.Interface
	Resource string // of the core group, plural
	Selector string // of fields
	// Page is how many objects are read at once, and held in memory as they come, where they are
	// listed. Streamed objects come from the API server's cache, which is several times faster, but
	// client-go holds all until the last one has come; an API server that can't stream is asked
	// for pages.
	Page   int64
	Stream bool
	Index  Index
	Log    logr.Logger
}

// Pages of kinds whose metadata is small, and of Pods, whose is not. In a cluster of 100,000
// ServiceAccounts and 10,000 Namespaces that is 55 requests, within the client's burst.
const (
	smallPage = 2000
	podPage   = 500
)

// ReflectAccounts keeps an index of ServiceAccounts.
func ReflectAccounts(client metadata.Interface, index *AccountIndex, log logr.Logger) *Reflector {
	return &Reflector{Metadata: client, Resource: "serviceaccounts", Page: smallPage, Stream: true, Index: index, Log: log}
}

// ReflectNamespaces keeps an index of Namespaces.
func ReflectNamespaces(client metadata.Interface, index *NamespaceIndex, log logr.Logger) *Reflector {
	return &Reflector{Metadata: client, Resource: "namespaces", Page: smallPage, Stream: true, Index: index, Log: log}
}

// ReflectPods keeps an index of the Pods that have not ended. They are not streamed: their
// metadata is large (40 MiB for 50,000 Pods), and nothing waits for them. So are changes read
// from a calm client.
func ReflectPods(client, calm metadata.Interface, index *PodIndex, log logr.Logger) *Reflector {
	return &Reflector{Metadata: client, Calm: calm, Resource: "pods", Selector: alive().String(), Page: podPage, Index: index, Log: log}
}

// NeedLeaderElection is false: every replica answers from the indexes.
func (*Reflector) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (r *Reflector) Start(ctx context.Context) error {
	objects := r.Metadata.Resource(corev1.SchemeGroupVersion.WithResource(r.Resource))
	changes := objects
	if r.Calm != nil {
		changes = r.Calm.Resource(corev1.SchemeGroupVersion.WithResource(r.Resource))
	}
	store := &store{index: r.Index}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options = metav1.ListOptions{FieldSelector: r.Selector, Limit: r.Page, TimeoutSeconds: options.TimeoutSeconds}
			return store.list(ctx, objects, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.FieldSelector = r.Selector
			return changes.Watch(ctx, options)
		},
	}
	listWatcher := cache.ToListWatcherWithWatchListSemantics(source, semantics{pages: !r.Stream})
	ctx = klog.NewContext(ctx, sparing(r.Log))
	cache.NewReflectorWithOptions(listWatcher, &metav1.PartialObjectMetadata{},
		store, cache.ReflectorOptions{Name: r.Resource, TypeDescription: "metadata of " + r.Resource, Backoff: &less, Logger: &r.Log}).RunWithContext(ctx)
	return nil
}

// semantics tell client-go whether lists may be streamed.
type semantics struct{ pages bool }

// IsWatchListSemanticsUnSupported is what client-go asks for.
func (s semantics) IsWatchListSemanticsUnSupported() bool { return s.pages }

// store is an index as client-go's reflector fills it.
type store struct {
	index  Index
	listed func() // puts in force what the last list has read
}

// list reads all objects, and returns of them no more than at which version that was.
func (s *store) list(ctx context.Context, objects metadata.ResourceInterface, page metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	put, take := s.index.Anew()
	for {
		list, err := objects.List(ctx, page)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			put(&list.Items[i])
		}
		if page.Continue = list.Continue; page.Continue == "" {
			s.listed = take
			return &metav1.PartialObjectMetadataList{TypeMeta: list.TypeMeta, ListMeta: metav1.ListMeta{ResourceVersion: list.ResourceVersion}}, nil
		}
	}
}

// Replace puts in force what was listed, or the objects that were streamed.
func (s *store) Replace(objects []any, _ string) error {
	take := s.listed
	if s.listed = nil; take == nil {
		var put func(*metav1.PartialObjectMetadata)
		put, take = s.index.Anew()
		for _, object := range objects {
			if err := tell(put, object); err != nil {
				return err
			}
		}
	}
	take()
	return nil
}

// Transformer drops of a streamed object what no index keeps, before all of them are held.
func (*store) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		known, ok := object.(*metav1.PartialObjectMetadata)
		if !ok {
			return object, nil // told of later
		}
		meta := &known.ObjectMeta
		meta.ManagedFields, meta.OwnerReferences, meta.Finalizers = nil, nil, nil
		meta.Labels, meta.Annotations = ours(meta.Labels), ours(meta.Annotations)
		return known, nil
	}
}

// ours are the labels or annotations that mean something to an index; nil where none does, as
// an emptied map takes as much memory as it had.
func ours(all map[string]string) map[string]string {
	maps.DeleteFunc(all, func(key, _ string) bool {
		return !strings.HasPrefix(key, v1alpha1.Group+"/") && !strings.HasPrefix(key, eksPrefix) && key != mirrorPod
	})
	if len(all) == 0 {
		return nil
	}
	return all
}

// eksPrefix begins the names of EKS's own annotations.
const eksPrefix = "eks.amazonaws.com/"

// Add is told of an object.
func (s *store) Add(object any) error { return s.Update(object) }

// Update is told of an object.
func (s *store) Update(object any) error { return tell(s.index.Put, object) }

// Delete is told of an object that is gone, or not selected any more.
func (s *store) Delete(object any) error { return tell(s.index.Remove, object) }

// Resync has nothing to do: there is no queue behind.
func (*store) Resync() error { return nil }

func tell(index func(*metav1.PartialObjectMetadata), object any) error {
	known, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return fmt.Errorf("watch: an object's metadata is no %T", object)
	}
	index(known)
	return nil
}
