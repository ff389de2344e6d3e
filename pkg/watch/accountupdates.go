package watch

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// Put is told of a ServiceAccount.
func (x *AccountIndex) Put(object *metav1.PartialObjectMetadata) {
	x.mu.Lock()
	before, after := x.put(object)
	x.mu.Unlock()
	x.tell(object, before, after)
}

// Remove is told of a ServiceAccount that is gone.
func (x *AccountIndex) Remove(object *metav1.PartialObjectMetadata) {
	x.mu.Lock()
	before := x.remove(object)
	x.mu.Unlock()
	x.tell(object, before, nil)
}

func (x *AccountIndex) tell(object *metav1.PartialObjectMetadata, before, after *account) {
	if before.concerned() || after.concerned() {
		x.changed(types.NamespacedName{Namespace: strings.Clone(object.Namespace), Name: strings.Clone(object.Name)})
	}
}

func (x *AccountIndex) put(object *metav1.PartialObjectMetadata) (before, after *account) {
	here, found := x.namespaces[object.Namespace]
	if !found {
		here = &accountNamespace{name: strings.Clone(object.Namespace), accounts: map[string]*account{}}
		x.namespaces[here.name] = here
	}
	before, known := here.accounts[object.Name]
	after = x.accountOf(object, here.name)
	x.join(here, after)
	x.leave(here, before)
	switch {
	case after != nil:
		here.accounts[after.name] = after
	case !known || before != nil:
		here.accounts[strings.Clone(object.Name)] = nil
	}
	return before, after
}

func (x *AccountIndex) remove(object *metav1.PartialObjectMetadata) (before *account) {
	here, found := x.namespaces[object.Namespace]
	if !found {
		return nil
	}
	before = here.accounts[object.Name]
	x.leave(here, before)
	if delete(here.accounts, object.Name); len(here.accounts) == 0 {
		delete(x.namespaces, here.name)
	}
	return before
}

// accountOf keeps what counts; nil where nothing does.
func (x *AccountIndex) accountOf(object *metav1.PartialObjectMetadata, namespace string) *account {
	label, annotations := decide.LabelOf(object.Labels, v1alpha1.LabelPolicy), filter(object.Annotations, x.counts...)
	if !label.Set && len(annotations) == 0 {
		return nil
	}
	a := &account{namespace: namespace, name: strings.Clone(object.Name)}
	both := string(object.UID) + object.ResourceVersion // one piece of memory for two
	a.uid, a.version = both[:len(object.UID)], both[len(object.UID):]
	if label.Set {
		a.policy = x.policy(label.Value)
	}
	a.annotations = x.keep(annotations, a.policy)
	return a
}

func (x *AccountIndex) policy(name string) *accountPolicy {
	named, known := x.policies[name]
	if !known {
		named = &accountPolicy{name: strings.Clone(name)}
		x.policies[named.name] = named
	}
	return named
}

// keep gives the very annotations of another ServiceAccount of the policy where they are equal,
// else their like in memory of their own. The record of what we wrote quotes the values that we
// wrote, so that most need none.
func (x *AccountIndex) keep(annotations map[string]string, policy *accountPolicy) map[string]string {
	if len(annotations) == 0 {
		return nil
	}
	if policy != nil && maps.Equal(policy.annotations, annotations) {
		return policy.annotations
	}
	kept := make(map[string]string, len(annotations))
	record := strings.Clone(annotations[v1alpha1.AnnotationManaged])
	for _, key := range x.counts {
		if value, has := annotations[key]; has {
			if at := strings.Index(record, value); at >= 0 {
				kept[key] = record[at : at+len(value)]
			} else {
				kept[key] = strings.Clone(value)
			}
		}
	}
	if policy != nil {
		policy.annotations = kept
	}
	return kept
}

func (x *AccountIndex) join(here *accountNamespace, a *account) {
	if a != nil && a.policy != nil {
		a.place, a.policy.accounts = len(a.policy.accounts), append(a.policy.accounts, a)
		here.labelled++
	}
}

func (x *AccountIndex) leave(here *accountNamespace, a *account) {
	if a == nil || a.policy == nil {
		return
	}
	here.labelled--
	all := a.policy.accounts
	last := len(all) - 1
	all[a.place], all[last].place = all[last], a.place
	all[last] = nil
	if a.policy.accounts = all[:last]; last == 0 {
		delete(x.policies, a.policy.name)
	}
}

func filter(all map[string]string, keys ...string) map[string]string {
	var kept map[string]string
	for _, key := range keys {
		if value, has := all[key]; has {
			if kept == nil {
				kept = make(map[string]string, 1)
			}
			kept[key] = value
		}
	}
	return kept
}

// Anew makes room for a list of all ServiceAccounts.
func (x *AccountIndex) Anew() (put func(object *metav1.PartialObjectMetadata), take func()) {
	next := NewAccountIndex()
	return func(object *metav1.PartialObjectMetadata) { next.put(object) }, func() {
		// Nobody else writes, and reading goes on while there is much to compare.
		x.mu.RLock()
		changed := next.since(x)
		x.mu.RUnlock()
		x.mu.Lock()
		x.namespaces, x.policies, x.synced = next.namespaces, next.policies, true
		x.mu.Unlock()
		for _, name := range changed {
			x.changed(name)
		}
	}
}

// since names what is concerned before or now, and was added, changed or removed in between.
func (x *AccountIndex) since(before *AccountIndex) (changed []types.NamespacedName) {
	for namespace, here := range x.namespaces {
		for name, a := range here.accounts {
			if old, _ := before.at(namespace, name); (a.concerned() || old.concerned()) && !a.same(old) {
				changed = append(changed, types.NamespacedName{Namespace: namespace, Name: name})
			}
		}
	}
	for namespace, here := range before.namespaces {
		for name, old := range here.accounts {
			if _, still := x.at(namespace, name); !still && old.concerned() {
				changed = append(changed, types.NamespacedName{Namespace: namespace, Name: name})
			}
		}
	}
	return changed
}

// same says whether both are one version of one object.
func (a *account) same(other *account) bool {
	return a != nil && other != nil && a.uid == other.uid && a.version == other.version
}
