package watch

import (
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// NamespaceIndex knows every Namespace and its label.
type NamespaceIndex struct {
	mu     sync.RWMutex
	labels map[string]decide.Label // by name
	synced bool
}

// NewNamespaceIndex makes an empty one.
func NewNamespaceIndex() *NamespaceIndex { return &NamespaceIndex{labels: map[string]decide.Label{}} }

// Synced says whether all Namespaces have been seen once.
func (x *NamespaceIndex) Synced() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.synced
}

// Label is a Namespace's label; found is whether the Namespace is known.
func (x *NamespaceIndex) Label(name string) (label decide.Label, found bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	label, found = x.labels[name]
	return label, found
}

// Put is told of a Namespace.
func (x *NamespaceIndex) Put(namespace *metav1.PartialObjectMetadata) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put(namespace)
}

func (x *NamespaceIndex) put(namespace *metav1.PartialObjectMetadata) {
	label := decide.LabelOf(namespace.Labels, v1alpha1.LabelPolicy)
	if before, known := x.labels[namespace.Name]; known && before == label {
		return
	}
	label.Value = strings.Clone(label.Value)
	x.labels[strings.Clone(namespace.Name)] = label
}

// Remove is told of a Namespace that is gone.
func (x *NamespaceIndex) Remove(namespace *metav1.PartialObjectMetadata) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.labels, namespace.Name)
}

// Anew makes room for a list of all Namespaces.
func (x *NamespaceIndex) Anew() (put func(namespace *metav1.PartialObjectMetadata), take func()) {
	next := NewNamespaceIndex()
	return next.put, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.labels, x.synced = next.labels, true
	}
}
