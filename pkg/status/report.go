package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// State of a policy.
type State string

// The states. Missing: something names the policy, and there is none.
const (
	Valid          State = "Valid"
	LastGood       State = "LastGood"
	Invalid        State = "Invalid"
	IssuerMismatch State = "IssuerMismatch"
	Missing        State = "Missing"
)

// Report is who can read what.
type Report struct {
	Policies []Policy `json:"policies"`
	// Problems are data keys that define no policy.
	Problems []string `json:"problems,omitempty"`
	Unread   []string `json:"unread,omitempty"`
}

// Policy is one policy with those who use it.
type Policy struct {
	Name    string `json:"name"`
	State   State  `json:"state"`
	Bucket  string `json:"bucket,omitempty"`
	Prefix  string `json:"prefix,omitempty"`
	Region  string `json:"region,omitempty"`
	Role    string `json:"role,omitempty"`
	Account string `json:"account,omitempty"`
	// Actions that the role is meant to allow.
	Actions []string `json:"actions,omitempty"`
	// Subjects as they are written, namespace/name.
	Subjects []string `json:"subjects,omitempty"`
	// ServiceAccounts that exist and are listed, namespace/name.
	ServiceAccounts []string `json:"serviceAccounts,omitempty"`
	// Pods that are injected and run.
	Pods int `json:"pods"`
	// Outdated Pods carry another version of the policy, Uninjected ones should carry it and
	// do not, Revoked ones carry it though they may not any more.
	Outdated   []Group `json:"outdated,omitempty"`
	Uninjected []Group `json:"uninjected,omitempty"`
	Revoked    []Group `json:"revoked,omitempty"`
	// Conflicts are ServiceAccounts and Pods that ask for the policy and can't have it.
	Conflicts []string `json:"conflicts,omitempty"`
	Errors    []string `json:"errors,omitempty"`
}

// Group is the Pods of one owner.
type Group struct {
	Namespace string `json:"namespace"`
	Owner     Owner  `json:"owner"`
	Pods      int    `json:"pods"`
	Mend
}

// Count is the number of Pods of all groups.
func Count(groups []Group) (n int) {
	for _, g := range groups {
		n += g.Pods
	}
	return n
}

// Make makes the report of all policies, ordered by name.
func Make(f *Facts) *Report {
	rows := map[string]*Policy{}
	row := func(name string) *Policy {
		if rows[name] == nil {
			rows[name] = &Policy{Name: name, State: Missing}
		}
		return rows[name]
	}
	for _, entry := range f.Policies.Entries() {
		p := describe(entry, f.Cluster)
		rows[entry.Name] = &p
	}
	f.listed(rows)
	f.judgeAccounts(row)
	f.judgePods(row)
	report := &Report{Policies: make([]Policy, 0, len(rows)), Unread: f.Unread}
	for _, p := range rows {
		slices.Sort(p.ServiceAccounts)
		for _, list := range [][]Group{p.Outdated, p.Uninjected, p.Revoked} {
			slices.SortFunc(list, func(a, b Group) int {
				return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Owner.String(), b.Owner.String()))
			})
		}
		slices.Sort(p.Conflicts)
		p.Conflicts = slices.Compact(p.Conflicts)
		report.Policies = append(report.Policies, *p)
	}
	slices.SortFunc(report.Policies, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	for _, problem := range f.Policies.Problems() {
		report.Problems = append(report.Problems, fmt.Sprintf("ConfigMap %s: %s", problem.Source.Name, problem.Errors.ToAggregate()))
	}
	return report
}

func describe(entry *policy.Entry, cluster decide.Cluster) Policy {
	p := Policy{Name: entry.Name, State: Valid}
	for _, fault := range entry.Errors {
		p.Errors = append(p.Errors, fault.Error())
	}
	found := entry.Policy
	switch {
	case found == nil:
		p.State = Invalid
		return p
	case entry.LastGood():
		p.State = LastGood
	case found.Issuer != "" && cluster.Issuer != "" && found.Issuer != cluster.Issuer:
		p.State = IssuerMismatch
	}
	p.Bucket, p.Prefix, p.Region, p.Actions = found.Bucket, found.Prefix, found.Region, found.Actions
	p.Role, p.Account = found.Role.String(), found.Role.Account()
	for _, subject := range found.Subjects.All() {
		p.Subjects = append(p.Subjects, subject.Namespace+"/"+subject.ServiceAccount)
	}
	return p
}

// listed finds the ServiceAccounts that each policy lists. Names are looked up and only
// patterns are tried on every ServiceAccount.
func (f *Facts) listed(rows map[string]*Policy) {
	for _, entry := range f.Policies.Entries() {
		if entry.Policy == nil {
			continue
		}
		row, patterns := rows[entry.Name], false
		for _, s := range entry.Policy.Subjects.All() {
			if iam.HasWildcard(s.Namespace) || iam.HasWildcard(s.ServiceAccount) {
				patterns = true
				break
			}
			if _, exists := f.Accounts[types.NamespacedName{Namespace: s.Namespace, Name: s.ServiceAccount}]; exists {
				row.ServiceAccounts = append(row.ServiceAccounts, s.Namespace+"/"+s.ServiceAccount)
			}
		}
		if !patterns {
			continue
		}
		row.ServiceAccounts = nil
		for name := range f.Accounts {
			if entry.Policy.Subjects.Allow(name.Namespace, name.Name) {
				row.ServiceAccounts = append(row.ServiceAccounts, name.String())
			}
		}
	}
}

// judgeAccounts finds labelled ServiceAccounts that can't have what they ask for.
func (f *Facts) judgeAccounts(row func(string) *Policy) {
	for name, account := range f.Accounts {
		if slices.Contains(f.Excluded, name.Namespace) {
			continue
		}
		outcome := inject.ServiceAccount(account, decide.ServiceAccount(name.Namespace, name.Name, account.Policy, f.Policies, f.Cluster))
		if outcome.Kind == decide.Deny {
			p := row(outcome.PolicyName)
			p.Conflicts = append(p.Conflicts, "serviceaccount "+name.String()+": "+string(outcome.Reason))
		}
	}
}

// Kind of a Pod, as its policy sees it.
type Kind string

// The kinds. None: the Pod has nothing to do with a policy.
const (
	None       Kind = ""
	Current    Kind = "Current"
	Outdated   Kind = "Outdated"
	Uninjected Kind = "Uninjected"
	Revoked    Kind = "Revoked"
	Conflict   Kind = "Conflict"
)

// Judge says what a Pod is, of which policy, and the verdict for a Pod like it now.
func (f *Facts) Judge(p *Pod) (Kind, string, decide.Verdict) {
	if slices.Contains(f.Excluded, p.Namespace) {
		return None, "", decide.Verdict{Kind: decide.Skip, Reason: decide.ReasonNotRequested}
	}
	verdict := decide.Pod(f.request(p), f.Policies, f.Cluster)
	if p.Injected.Set {
		carried, known := f.Policies.Lookup(p.Injected.Value)
		switch {
		case !known || (carried.Policy != nil && !carried.Policy.Subjects.Allow(p.Namespace, p.ServiceAccount)):
			return Revoked, p.Injected.Value, verdict
		case carried.Policy != nil && carried.Policy.Hash != p.Hash, verdict.Kind == decide.Inject && verdict.PolicyName != p.Injected.Value:
			return Outdated, p.Injected.Value, verdict
		}
		return Current, p.Injected.Value, verdict
	}
	switch {
	case verdict.Kind == decide.Inject:
		return Uninjected, verdict.PolicyName, verdict
	case verdict.Kind == decide.Deny || verdict.Message != "":
		return Conflict, verdict.PolicyName, verdict
	}
	return None, "", verdict
}

// judgePods counts the Pods of each policy, by owner.
func (f *Facts) judgePods(row func(string) *Policy) {
	type place struct {
		policy    string
		kind      Kind
		namespace string
		owner     Owner
	}
	groups := map[place][]*Pod{}
	for i := range f.Pods {
		p := &f.Pods[i]
		kind, name, verdict := f.Judge(p)
		if kind == None {
			continue
		}
		r := row(name)
		if p.Injected.Set {
			r.Pods++
		}
		switch kind {
		case Current:
		case Conflict:
			r.Conflicts = append(r.Conflicts, p.Owner.Kind+" "+p.Namespace+"/"+p.Owner.Name+": "+string(verdict.Reason))
		default:
			at := place{name, kind, p.Namespace, p.Owner}
			groups[at] = append(groups[at], p)
		}
	}
	for at, pods := range groups {
		r, group := row(at.policy), Group{Namespace: at.namespace, Owner: at.owner, Pods: len(pods)}
		switch at.kind {
		case Outdated:
			group.Mend = f.anew(pods)
			r.Outdated = append(r.Outdated, group)
		case Uninjected:
			group.Mend = f.anew(pods)
			r.Uninjected = append(r.Uninjected, group)
		case Revoked:
			group.Mend = f.withdraw(pods)
			r.Revoked = append(r.Revoked, group)
		default:
			continue
		}
	}
}
