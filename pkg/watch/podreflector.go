package watch

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// PodReflector keeps a PodIndex in step with the cluster. It asks for metadata alone, and
// for no Pod that has ended: to a watch, a Pod that ends is one that goes.
type PodReflector struct {
	Metadata metadata.Interface
	Clients  kubernetes.Interface
	Index    *PodIndex
	Log      logr.Logger
}

// podPage is the number of Pods whose metadata is read at once, and accountsPage that of whole
// Pods: they are held in memory as they come.
const (
	podPage      = 500
	accountsPage = 100
)

// alive selects the Pods that have not ended.
func alive() fields.Selector {
	return fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
}

// NeedLeaderElection is false: every replica answers for Namespaces.
func (*PodReflector) NeedLeaderElection() bool { return false }

// Start watches until ctx ends.
func (p *PodReflector) Start(ctx context.Context) error {
	pods := p.Metadata.Resource(corev1.SchemeGroupVersion.WithResource("pods"))
	store := &podStore{PodIndex: p.Index}
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return store.list(ctx, pods, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.FieldSelector = alive().String()
			return pods.Watch(ctx, options)
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(source, listsThemselves{}), &metav1.PartialObjectMetadata{},
		store, cache.ReflectorOptions{Name: "pods", TypeDescription: "metadata of Pods", Logger: &p.Log}).RunWithContext(ctx)
	return nil
}

// listsThemselves keeps the reflector from streaming a list, of which it would hold every
// object until the last one has come: 40 MiB for 50,000 Pods.
type listsThemselves struct{}

// IsWatchListSemanticsUnSupported is what client-go asks for.
func (listsThemselves) IsWatchListSemanticsUnSupported() bool { return true }

// podStore is the index as a reflector fills it. A list goes into it page by page, so that
// the cluster's Pods are never held all at once.
type podStore struct {
	*PodIndex
	listed *PodIndex // by the last list
}

var errNotListed = errors.New("watch: Pods were not listed")

// list reads all Pods, and returns of them no more than at which version that was.
func (s *podStore) list(ctx context.Context, pods metadata.ResourceInterface, options metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	next := NewPodIndex()
	page := metav1.ListOptions{FieldSelector: alive().String(), Limit: podPage, TimeoutSeconds: options.TimeoutSeconds}
	for {
		list, err := pods.List(ctx, page)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			next.update(&list.Items[i])
		}
		if page.Continue = list.Continue; page.Continue == "" {
			s.listed = next
			return &metav1.PartialObjectMetadataList{TypeMeta: list.TypeMeta, ListMeta: metav1.ListMeta{ResourceVersion: list.ResourceVersion}}, nil
		}
	}
}

// Replace puts what was listed in force.
func (s *podStore) Replace([]any, string) error {
	if s.listed == nil {
		return errNotListed
	}
	s.take(s.listed)
	s.listed = nil
	return nil
}

// Accounts reads the ServiceAccounts of the Pods of a Namespace into the index, page by page.
// Metadata does not name them.
func (p *PodReflector) Accounts(ctx context.Context, namespace string) error {
	options := metav1.ListOptions{FieldSelector: alive().String(), Limit: accountsPage}
	for {
		list, err := p.Clients.CoreV1().Pods(namespace).List(ctx, options)
		if err != nil {
			return fmt.Errorf("reading the ServiceAccounts of Pods: %w", err)
		}
		accounts := make(map[string]string, len(list.Items))
		for i := range list.Items {
			accounts[list.Items[i].Name] = list.Items[i].Spec.ServiceAccountName
		}
		p.Index.Learn(namespace, accounts)
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}
