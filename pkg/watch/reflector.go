package watch

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
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

// Reflector keeps an Index in step with the cluster. It asks for metadata alone, and lists
// page by page into the index, so that the cluster's objects are never held all at once.
type Reflector struct {
	Metadata metadata.Interface
	Resource string // of the core group, plural
	Selector string // of fields
	Page     int64  // objects that are read at once, and held in memory as they come
	Index    Index
	Log      logr.Logger
}

// Pages of kinds whose metadata is small, and of Pods, whose is not. In a cluster of 100,000
// ServiceAccounts and 10,000 Namespaces that is 55 requests, within the client's burst.
const (
	smallPage = 2000
	podPage   = 500
)

// ReflectAccounts keeps an index of ServiceAccounts.
func ReflectAccounts(client metadata.Interface, index *AccountIndex, log logr.Logger) *Reflector {
	return &Reflector{Metadata: client, Resource: "serviceaccounts", Page: smallPage, Index: index, Log: log}
}

// ReflectNamespaces keeps an index of Namespaces.
func ReflectNamespaces(client metadata.Interface, index *NamespaceIndex, log logr.Logger) *Reflector {
	return &Reflector{Metadata: client, Resource: "namespaces", Page: smallPage, Index: index, Log: log}
}

// ReflectPods keeps an index of the Pods that have not ended.
func ReflectPods(client metadata.Interface, index *PodIndex, log logr.Logger) *Reflector {
	return &Reflector{Metadata: client, Resource: "pods", Selector: alive().String(), Page: podPage, Index: index, Log: log}
}

// NeedLeaderElection is false: every replica answers from the indexes.
func (*Reflector) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (r *Reflector) Start(ctx context.Context) error {
	objects := r.Metadata.Resource(corev1.SchemeGroupVersion.WithResource(r.Resource))
	store := &store{index: r.Index}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options = metav1.ListOptions{FieldSelector: r.Selector, Limit: r.Page, TimeoutSeconds: options.TimeoutSeconds}
			return store.list(ctx, objects, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.FieldSelector = r.Selector
			return objects.Watch(ctx, options)
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(source, listsThemselves{}), &metav1.PartialObjectMetadata{},
		store, cache.ReflectorOptions{Name: r.Resource, TypeDescription: "metadata of " + r.Resource, Logger: &r.Log}).RunWithContext(ctx)
	return nil
}

// listsThemselves keeps the reflector from streaming a list, of which it would hold every
// object until the last one has come: 40 MiB for 50,000 Pods.
type listsThemselves struct{}

// IsWatchListSemanticsUnSupported is what client-go asks for.
func (listsThemselves) IsWatchListSemanticsUnSupported() bool { return true }

// store is an index as client-go's reflector fills it.
type store struct {
	index  Index
	listed func() // puts in force what the last list has read
}

var errNotListed = errors.New("watch: nothing was listed")

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

// Replace puts what was listed in force.
func (s *store) Replace([]any, string) error {
	if s.listed == nil {
		return errNotListed
	}
	s.listed()
	s.listed = nil
	return nil
}

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
