package watch

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// AccountIndex knows of every ServiceAccount that it exists, and of those that carry the
// label or an annotation that counts what decides and what a patch must name. Of the many
// others of a cluster it holds no more than the name.
type AccountIndex struct {
	mu         sync.RWMutex
	namespaces map[string]*accountNamespace
	policies   map[string]*accountPolicy // by the label's value
	synced     bool
	changed    func(types.NamespacedName)
	counts     []string // the annotations
}

type accountNamespace struct {
	name     string
	accounts map[string]*account // by name; nil where it carries nothing
	labelled int
}

// account is a ServiceAccount that carries something. What is read without the lock is replaced
// with the whole, never changed.
type account struct {
	namespace, name, uid, version string
	policy                        *accountPolicy // nil without the label
	place                         int            // among the policy's, under the lock
	annotations                   map[string]string
}

// accountPolicy is what the labels of some ServiceAccounts name.
type accountPolicy struct {
	name     string
	accounts []*account // in any order
	// annotations were the last one's: mostly all have the same, and share them.
	annotations map[string]string
}

// concerned says whether what a policy says may have to be written to the ServiceAccount, or
// taken away from it.
func (a *account) concerned() bool {
	if a == nil {
		return false
	}
	_, managed := a.annotations[v1alpha1.AnnotationManaged]
	return a.policy != nil || managed
}

// NewAccountIndex makes an empty one.
func NewAccountIndex() *AccountIndex {
	return &AccountIndex{
		namespaces: map[string]*accountNamespace{}, policies: map[string]*accountPolicy{}, changed: func(types.NamespacedName) {},
		counts: append([]string{v1alpha1.AnnotationManaged}, inject.AccountAnnotations()...),
	}
}

// OnChange calls f after each change of a ServiceAccount that is concerned before or after it,
// also of one that a watch has missed. Call it before the index is filled.
func (x *AccountIndex) OnChange(f func(types.NamespacedName)) { x.changed = f }

// Synced says whether all ServiceAccounts have been seen once.
func (x *AccountIndex) Synced() bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.synced
}

// View is what decides of a ServiceAccount; found is whether the ServiceAccount is known. Its
// annotations may not be changed: others have the same.
func (x *AccountIndex) View(namespace, name string) (view inject.ServiceAccountView, found bool) {
	a, found := x.find(namespace, name)
	view.Namespace, view.Name = namespace, name
	if a != nil {
		view.Policy, view.HasAnnotations, view.Annotations = a.label(), len(a.annotations) > 0, a.annotations
	}
	return view, found
}

// Object is what a ServiceAccount is patched and spoken of by: of one that carries nothing that
// counts, the name alone. Its annotations may not be changed.
func (x *AccountIndex) Object(name types.NamespacedName) (object *metav1.PartialObjectMetadata, found bool) {
	a, found := x.find(name.Namespace, name.Name)
	if !found {
		return nil, false
	}
	object = ServiceAccount()
	object.Namespace, object.Name = name.Namespace, name.Name
	if a != nil {
		object.UID, object.ResourceVersion, object.Annotations = types.UID(a.uid), a.version, a.annotations
		if label := a.label(); label.Set {
			object.Labels = map[string]string{v1alpha1.LabelPolicy: label.Value}
		}
	}
	return object, true
}

func (x *AccountIndex) find(namespace, name string) (a *account, found bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.at(namespace, name)
}

func (x *AccountIndex) at(namespace, name string) (a *account, found bool) {
	if here, known := x.namespaces[namespace]; known {
		a, found = here.accounts[name]
	}
	return a, found
}

func (a *account) label() decide.Label {
	if a == nil || a.policy == nil {
		return decide.Label{}
	}
	return decide.Label{Value: a.policy.name, Set: true}
}

// Labelled counts the labelled ServiceAccounts of a Namespace.
func (x *AccountIndex) Labelled(namespace string) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if here, known := x.namespaces[namespace]; known {
		return here.labelled
	}
	return 0
}

// Of names the ServiceAccounts whose label names the policy, in any order.
func (x *AccountIndex) Of(policy string) []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	named, known := x.policies[policy]
	if !known {
		return nil
	}
	list := make([]types.NamespacedName, 0, len(named.accounts))
	for _, a := range named.accounts {
		list = append(list, types.NamespacedName{Namespace: a.namespace, Name: a.name})
	}
	return list
}

// Concerned names all that a policy may say something of, in any order. It looks at every
// ServiceAccount.
func (x *AccountIndex) Concerned() []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []types.NamespacedName
	for _, here := range x.namespaces {
		for _, a := range here.accounts {
			if a.concerned() {
				list = append(list, types.NamespacedName{Namespace: a.namespace, Name: a.name})
			}
		}
	}
	return list
}
