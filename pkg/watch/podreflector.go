package watch

import (
	"context"
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

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
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
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return listTrimmed(ctx, pods, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			options.FieldSelector = alive().String()
			return pods.Watch(ctx, options)
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(source, p.Metadata), &metav1.PartialObjectMetadata{},
		trimmed{p.Index}, cache.ReflectorOptions{Name: "pods", TypeDescription: "metadata of Pods", Logger: &p.Log}).RunWithContext(ctx)
	return nil
}

// listTrimmed lists page by page and keeps of each what is needed: API servers that can't
// stream a list would send all Pods of the cluster at once.
func listTrimmed(ctx context.Context, pods metadata.ResourceInterface, options metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	all := &metav1.PartialObjectMetadataList{}
	page := metav1.ListOptions{FieldSelector: alive().String(), Limit: podPage, TimeoutSeconds: options.TimeoutSeconds}
	for {
		list, err := pods.List(ctx, page)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			trimPod(&list.Items[i])
		}
		all.TypeMeta, all.ResourceVersion = list.TypeMeta, list.ResourceVersion
		all.Items = append(all.Items, list.Items...)
		if page.Continue = list.Continue; page.Continue == "" {
			return all, nil
		}
	}
}

// trimmed lets a reflector hold less while it takes in a streamed list.
type trimmed struct{ *PodIndex }

// Transformer is what client-go asks for.
func (trimmed) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		pod, err := podMetadata(object)
		if err == nil {
			trimPod(pod)
		}
		return pod, err
	}
}

// trimPod drops all of a Pod's metadata that no class is made of. Doing it twice changes nothing.
func trimPod(pod *metav1.PartialObjectMetadata) {
	kept := metav1.ObjectMeta{
		Name: pod.Name, Namespace: pod.Namespace, ResourceVersion: pod.ResourceVersion, DeletionTimestamp: pod.DeletionTimestamp,
		Labels:      filter(pod.Labels, v1alpha1.LabelPolicy, v1alpha1.LabelInjected, v1alpha1.LabelServiceAccountPolicy),
		Annotations: filter(pod.Annotations, mirrorPod, v1alpha1.AnnotationStatus),
	}
	if status, ok := inject.ParseStatus(kept.Annotations[v1alpha1.AnnotationStatus]); ok {
		kept.Annotations[v1alpha1.AnnotationStatus] = inject.Status{
			Policy: status.Policy, Source: status.Source, ServiceAccount: status.ServiceAccount, Hash: status.Hash,
		}.String()
	}
	pod.ObjectMeta = kept
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
