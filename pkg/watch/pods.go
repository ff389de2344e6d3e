package watch

import (
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// PodClass is all that is kept of a Pod besides its name. Pods of one class are judged
// alike, so they are counted, and their strings kept, together.
type PodClass struct {
	Namespace string
	// Account is the ServiceAccount; empty while it is unknown.
	Account string
	// Asked is the Pod's own label, Marked the API server's hint that its ServiceAccount has one.
	Asked  decide.Label
	Marked bool
	// Injected, Source and Hash are of the status annotation; empty where nothing was injected.
	Injected string
	Source   decide.Source
	Hash     string
}

// implied says that neither the Pod nor, as far as one sees, its ServiceAccount asks.
func (c *PodClass) implied() bool {
	return !c.Asked.Set && !c.Marked && c.Source != decide.FromPod && c.Source != decide.FromServiceAccount
}

// clone has strings of its own.
func (c *PodClass) clone() PodClass {
	clone := *c
	for _, text := range []*string{&clone.Namespace, &clone.Account, &clone.Asked.Value, &clone.Injected, (*string)(&clone.Source), &clone.Hash} {
		*text = strings.Clone(*text)
	}
	return clone
}

// PodIndex knows of every Pod that has not ended what policy it was given, in memory that
// hardly grows with their number.
type PodIndex struct {
	mu         sync.RWMutex
	namespaces map[string]*podNamespace
	synced     bool
	lists      int // that were taken or forgotten, each of which drops what was learnt
}

type podNamespace struct {
	pods    map[string]*podCount // by name
	classes map[PodClass]*podCount
}

type podCount struct {
	PodClass
	pods int
}

// NewPodIndex makes an empty one.
func NewPodIndex() *PodIndex { return &PodIndex{namespaces: map[string]*podNamespace{}} }

// Synced says whether all Pods have been seen once.
func (x *PodIndex) Synced() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.synced
}

// Lists is another number whenever what was learnt may be gone.
func (x *PodIndex) Lists() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.lists
}

// Classes calls each with every class and the number of its Pods.
func (x *PodIndex) Classes(each func(class PodClass, pods int)) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, here := range x.namespaces {
		for class, count := range here.classes {
			each(class, count.pods)
		}
	}
}

// Learn fills in the ServiceAccounts of Pods of a Namespace, by their names.
func (x *PodIndex) Learn(namespace string, accounts map[string]string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	here, found := x.namespaces[namespace]
	if !found {
		return
	}
	for name, account := range accounts {
		if count, known := here.pods[name]; known && count.Account == "" {
			class := count.PodClass
			class.Account = account
			here.put(name, class)
		}
	}
}

// Put is told of a Pod.
func (x *PodIndex) Put(pod *metav1.PartialObjectMetadata) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.update(pod)
}

func (x *PodIndex) update(pod *metav1.PartialObjectMetadata) {
	class, counted := classOf(pod)
	if !counted {
		x.remove(pod)
		return
	}
	here, found := x.namespaces[pod.Namespace]
	if !found {
		here = &podNamespace{pods: map[string]*podCount{}, classes: map[PodClass]*podCount{}}
		x.namespaces[strings.Clone(pod.Namespace)] = here
	}
	if before, known := here.pods[pod.Name]; known && class.Account == "" {
		class.Account = before.Account // which never changes; what was learnt is kept
	}
	here.put(pod.Name, class)
}

// put files a Pod under a class.
func (n *podNamespace) put(name string, class PodClass) {
	before, known := n.pods[name]
	if known && before.PodClass == class {
		return
	}
	count, found := n.classes[class]
	if !found {
		class = class.clone()
		count = &podCount{PodClass: class}
		n.classes[class] = count
	}
	count.pods++
	n.leave(before)
	if !known {
		name = strings.Clone(name)
	}
	n.pods[name] = count
}

func (n *podNamespace) leave(count *podCount) {
	if count == nil {
		return
	}
	if count.pods--; count.pods == 0 {
		delete(n.classes, count.PodClass)
	}
}

// Remove is told of a Pod that is gone, or has ended.
func (x *PodIndex) Remove(pod *metav1.PartialObjectMetadata) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(pod)
}

func (x *PodIndex) remove(pod *metav1.PartialObjectMetadata) {
	here, found := x.namespaces[pod.Namespace]
	if !found {
		return
	}
	here.leave(here.pods[pod.Name])
	if delete(here.pods, pod.Name); len(here.pods) == 0 {
		delete(x.namespaces, pod.Namespace)
	}
}

// Anew makes room for a list of all Pods.
func (x *PodIndex) Anew() (put func(pod *metav1.PartialObjectMetadata), take func()) {
	next := NewPodIndex()
	return next.update, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.namespaces, x.synced = next.namespaces, true
		x.lists++
	}
}

// Forget empties the index, as nobody will tell it of changes.
func (x *PodIndex) Forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.namespaces, x.synced = map[string]*podNamespace{}, false
	x.lists++
}

// mirrorPod is what the kubelet writes on the API server's image of a static Pod.
const mirrorPod = "kubernetes.io/config.mirror"

// classOf reads what is kept. Pods that end, and static ones, are nobody's to restart.
func classOf(pod *metav1.PartialObjectMetadata) (class PodClass, counted bool) {
	if _, mirror := pod.Annotations[mirrorPod]; mirror || pod.DeletionTimestamp != nil {
		return class, false
	}
	_, marked := pod.Labels[v1alpha1.LabelServiceAccountPolicy]
	class = PodClass{Namespace: pod.Namespace, Asked: decide.LabelOf(pod.Labels, v1alpha1.LabelPolicy), Marked: marked}
	// Both are there where something was injected: a label alone is somebody's own.
	status, ok := inject.ParseStatus(pod.Annotations[v1alpha1.AnnotationStatus])
	if policy, injected := pod.Labels[v1alpha1.LabelInjected]; ok && injected && policy == status.Policy {
		class.Injected, class.Source, class.Hash, class.Account = status.Policy, status.Source, status.Hash, status.ServiceAccount
	}
	return class, true
}
