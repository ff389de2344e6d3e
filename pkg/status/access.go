package status

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Use says how far a subject is with its access.
type Use string

// The uses, the nearest to data first.
const (
	InUse        Use = "InUse"   // Pods of the ServiceAccount are injected now
	StillCarried Use = "Revoked" // it is not listed any more, and Pods still carry the access
	Allowed      Use = "Allowed" // it is listed and has no such Pod
	Absent       Use = "Absent"  // it is listed and does not exist: who makes it may
	Pattern      Use = "Pattern" // a pattern: who makes a ServiceAccount that matches may
)

// Access is one subject's access by one policy.
type Access struct {
	Bucket         string   `json:"bucket"`
	Prefix         string   `json:"prefix,omitempty"`
	Policy         string   `json:"policy"`
	ServiceAccount string   `json:"serviceAccount"` // namespace/name, or a pattern
	Use            Use      `json:"use"`
	Pods           int      `json:"pods"`
	Role           string   `json:"role"`
	Actions        []string `json:"actions"`
}

// Accesses lists who can read what: by the policies that are in force, and by what
// running Pods carry.
func (f *Facts) Accesses(matches func(p *policy.Policy, account string) bool) []Access {
	carried := map[string]map[types.NamespacedName]int{}
	for i := range f.Pods {
		p := &f.Pods[i]
		if !p.Injected.Set {
			continue
		}
		if carried[p.Injected.Value] == nil {
			carried[p.Injected.Value] = map[types.NamespacedName]int{}
		}
		carried[p.Injected.Value][types.NamespacedName{Namespace: p.Namespace, Name: p.ServiceAccount}]++
	}
	var all []Access
	for _, entry := range f.Policies.Entries() {
		if entry.Policy == nil {
			continue
		}
		for account, a := range f.accesses(entry.Policy, carried[entry.Name]) {
			if matches(entry.Policy, account) {
				all = append(all, a)
			}
		}
	}
	slices.SortFunc(all, func(a, b Access) int {
		return cmp.Or(strings.Compare(a.Bucket, b.Bucket), strings.Compare(a.Policy, b.Policy), strings.Compare(a.ServiceAccount, b.ServiceAccount))
	})
	return all
}

// accesses are those by one policy, by subject.
func (f *Facts) accesses(p *policy.Policy, carried map[types.NamespacedName]int) map[string]Access {
	found := map[string]Access{}
	add := func(account string, use Use, pods int) {
		found[account] = Access{
			Bucket: p.Bucket, Prefix: p.Prefix, Policy: p.Name, ServiceAccount: account, Use: use, Pods: pods, Role: p.Role.String(), Actions: p.Actions,
		}
	}
	for _, s := range p.Subjects.All() {
		name := types.NamespacedName{Namespace: s.Namespace, Name: s.ServiceAccount}
		switch _, exists := f.Accounts[name]; {
		case iam.HasWildcard(s.Namespace) || iam.HasWildcard(s.ServiceAccount):
			add(name.String(), Pattern, 0)
			for account := range f.Accounts {
				if iam.Like(s.Namespace, account.Namespace) && iam.Like(s.ServiceAccount, account.Name) {
					add(account.String(), Allowed, 0)
				}
			}
		case exists:
			add(name.String(), Allowed, 0)
		default:
			add(name.String(), Absent, 0)
		}
	}
	for account, pods := range carried {
		if p.Subjects.Allow(account.Namespace, account.Name) {
			add(account.String(), InUse, pods)
		} else {
			add(account.String(), StillCarried, pods)
		}
	}
	return found
}
