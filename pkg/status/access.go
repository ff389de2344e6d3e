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
	StillCarried Use = "Revoked" // it may not any more, and Pods still carry the access
	Allowed      Use = "Allowed" // it is listed and has no such Pod
	Absent       Use = "Absent"  // it is listed and does not exist: who makes it may
	Unknown      Use = "Unknown" // it is listed, and ServiceAccounts can't be listed
	Pattern      Use = "Pattern" // a pattern: who makes a ServiceAccount that matches may
	// OtherCluster: it is listed by a policy for another token issuer, which gives nothing here.
	OtherCluster Use = "IssuerMismatch"
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
	Actions        []string `json:"actions,omitempty"` // unknown of what a policy gave that is gone
}

// WhoCan lists who can read a bucket: by the policies that are in force, and by what running
// Pods carry.
func (f *Facts) WhoCan(bucket string) []Access {
	return f.accesses(func(a *Access) bool { return a.Bucket == bucket })
}

// WhatCan lists what a ServiceAccount can read, also by patterns that it need not exist for.
func (f *Facts) WhatCan(account types.NamespacedName) []Access {
	all := f.accesses(func(a *Access) bool { return a.ServiceAccount == account.String() })
	for _, entry := range f.Policies.Entries() {
		p := entry.Policy
		listed := slices.ContainsFunc(all, func(a Access) bool { return a.Policy == entry.Name && a.Use != StillCarried })
		if p == nil || listed || !p.Subjects.Allow(account.Namespace, account.Name) {
			continue
		}
		all = append(all, access(p, account, f.use(p, account), 0))
	}
	return sorted(all)
}

func sorted(all []Access) []Access {
	slices.SortFunc(all, func(a, b Access) int {
		return cmp.Or(strings.Compare(a.Bucket, b.Bucket), strings.Compare(a.Policy, b.Policy), strings.Compare(a.ServiceAccount, b.ServiceAccount),
			strings.Compare(string(a.Use), string(b.Use)), strings.Compare(a.Role, b.Role))
	})
	return all
}

func access(p *policy.Policy, account types.NamespacedName, use Use, pods int) Access {
	return Access{
		Bucket: p.Bucket, Prefix: p.Prefix, Policy: p.Name, ServiceAccount: account.String(), Use: use, Pods: pods, Role: p.Role.String(), Actions: p.Actions,
	}
}

// use is that of a subject without Pods.
func (f *Facts) use(p *policy.Policy, subject types.NamespacedName) Use {
	_, exists := f.Accounts[subject]
	switch {
	case p.Issuer != "" && f.Cluster.Issuer != "" && p.Issuer != f.Cluster.Issuer:
		return OtherCluster
	case iam.HasWildcard(subject.Namespace) || iam.HasWildcard(subject.Name):
		return Pattern
	case exists:
		return Allowed
	case slices.Contains(f.Unread, NoRight+listAccounts):
		return Unknown
	}
	return Absent
}

// accesses are those that match, by each policy in force and by what Pods carry.
func (f *Facts) accesses(matches func(*Access) bool) []Access {
	all := []Access{} // never null
	add := func(a Access) {
		if matches(&a) {
			all = append(all, a)
		}
	}
	inUse := f.addRevoked(add)
	for _, entry := range f.Policies.Entries() {
		p := entry.Policy
		if p == nil {
			continue
		}
		subjects := f.subjects(p)
		for account, pods := range inUse[p.Name] {
			add(access(p, account, InUse, pods))
			delete(subjects, account)
		}
		for subject := range subjects {
			add(access(p, subject, f.use(p, subject), 0))
		}
	}
	return sorted(all)
}

// subjects are those that a policy lists, as they are written, and the ServiceAccounts that
// a pattern matches.
func (f *Facts) subjects(p *policy.Policy) map[types.NamespacedName]bool {
	found := map[types.NamespacedName]bool{}
	for _, s := range p.Subjects.All() {
		found[types.NamespacedName{Namespace: s.Namespace, Name: s.ServiceAccount}] = true
		if !iam.HasWildcard(s.Namespace) && !iam.HasWildcard(s.ServiceAccount) {
			continue
		}
		for account := range f.Accounts {
			if iam.Like(s.Namespace, account.Namespace) && iam.Like(s.ServiceAccount, account.Name) {
				found[account] = true
			}
		}
	}
	return found
}

// addRevoked adds what Pods carry though nothing gives it any more, and counts the other
// Pods by policy and ServiceAccount.
func (f *Facts) addRevoked(add func(Access)) map[string]map[types.NamespacedName]int {
	type former struct {
		policy, bucket, prefix, role string
		account                      types.NamespacedName
	}
	inUse, revoked := map[string]map[types.NamespacedName]int{}, map[former]int{}
	for i := range f.Pods {
		p := &f.Pods[i]
		if !p.Injected.Set {
			continue
		}
		var now *policy.Policy
		if entry, known := f.Policies.Lookup(p.Injected.Value); known {
			now = entry.Policy
		}
		of := former{
			p.Injected.Value, p.Carried.bucket(now), p.Carried.prefix(now), p.Carried.Role, types.NamespacedName{Namespace: p.Namespace, Name: p.ServiceAccount},
		}
		if now == nil {
			revoked[of]++
			continue
		}
		of.bucket, of.role = cmp.Or(of.bucket, now.Bucket), cmp.Or(of.role, now.Role.String()) // where there is no record
		if of.bucket != now.Bucket || of.role != now.Role.String() || !now.Subjects.Allow(p.Namespace, p.ServiceAccount) {
			revoked[of]++
			continue
		}
		if inUse[now.Name] == nil {
			inUse[now.Name] = map[types.NamespacedName]int{}
		}
		inUse[now.Name][of.account]++
	}
	for of, pods := range revoked {
		a := Access{Bucket: of.bucket, Prefix: of.prefix, Policy: of.policy, ServiceAccount: of.account.String(), Use: StillCarried, Pods: pods, Role: of.role}
		if entry, known := f.Policies.Lookup(of.policy); known && entry.Policy != nil {
			a.Actions = entry.Policy.Actions
		}
		add(a)
	}
	return inUse
}
