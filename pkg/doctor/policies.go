package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// policies reads them and all other facts, and judges the documents.
func (d *Doctor) policies(ctx context.Context) result {
	source := &status.Source{
		Client: d.Client, REST: d.Clients.Discovery().RESTClient(), Own: d.Own, Configuration: d.Configuration, Namespace: d.namespaceOfFacts(),
		Kubectl: d.Kubectl,
	}
	facts, err := source.Read(ctx)
	if err != nil {
		return unread(err, "list configmaps in namespace "+d.Own)
	}
	d.facts = facts
	if d.Target.Kind == Policy {
		entry, known := facts.Policies.Lookup(d.Target.Name)
		if !known {
			return d.unknownPolicy()
		}
		d.policy = entry.Policy
		if len(entry.Errors) > 0 {
			return d.invalid(entry)
		}
		return fine("policy %s is valid: bucket %s, role %s", entry.Name, entry.Policy.Bucket, entry.Policy.Role)
	}
	var invalid []*policy.Entry
	for _, entry := range facts.Policies.Entries() {
		if len(entry.Errors) > 0 {
			invalid = append(invalid, entry)
		}
	}
	switch problems := facts.Policies.Problems(); {
	case len(invalid) > 0 && d.Target.Kind == Everything:
		return d.invalid(invalid[0])
	case len(invalid) > 0: // perhaps not the one that counts
		check := d.invalid(invalid[0])
		check.State = Warn
		return check
	case len(problems) > 0:
		p := problems[0]
		return warned(fmt.Sprintf("ConfigMap %s, key %s: %s", p.Source.Name, p.Key, p.Errors.ToAggregate()), "rename or remove the key",
			d.editConfigMap(p.Source))
	}
	return fine("%d, all valid", len(facts.Policies.Entries()))
}

// namespaceOfFacts limits what is listed.
func (d *Doctor) namespaceOfFacts() string {
	if d.Target.Kind == Policy || d.Target.Kind == Everything {
		return ""
	}
	return d.Target.Namespace
}

func (d *Doctor) invalid(entry *policy.Entry) result {
	var faults []string
	for _, fault := range entry.Errors {
		faults = append(faults, fault.Error())
	}
	state := "no earlier version is known, so Pods that ask for it are refused"
	if entry.LastGood() {
		state = "the last good version is in force; a subject that this edit removes still has access"
	}
	return failed(fmt.Sprintf("policy %s in ConfigMap %s is invalid: %s. %s", entry.Name, entry.Source.Name, list(faults), state),
		"correct the document", d.editConfigMap(entry.Source))
}

// editConfigMap is the command that changes a policy's document.
func (d *Doctor) editConfigMap(source policy.Ref) string {
	return d.Kubectl.In(d.Own, "edit configmap", source.Name)
}

func (d *Doctor) unknownPolicy() result {
	why := fmt.Sprintf("namespace %s has no policy %q", d.Own, d.Target.Name)
	look := d.Kubectl.BucketAccess("status")
	if near := d.nearest(d.Target.Name); near != "" {
		why += fmt.Sprintf("; there is %q", near)
		look = d.Kubectl.BucketAccess("doctor", near)
	}
	return failed(why, "name one that is there: kubectl bucket-access status lists them", "").looking(look)
}

// nearest is the policy whose name is closest, if any is close.
func (d *Doctor) nearest(name string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, entry := range d.facts.Policies.Entries() {
		if n := levenshtein(name, entry.Name); n < distance {
			best, distance = entry.Name, n
		}
	}
	return best
}

// levenshtein is the number of letters to insert, remove or replace.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := before
			if a[i-1] != b[j-1] {
				replaced++
			}
			before = row[j]
			row[j] = min(replaced, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// allowing lists the policies that a ServiceAccount may use, by name.
func (d *Doctor) allowing(account types.NamespacedName) (names []string) {
	for _, entry := range d.facts.Policies.Entries() {
		if entry.Policy != nil && entry.Policy.Subjects.Allow(account.Namespace, account.Name) {
			names = append(names, entry.Name)
		}
	}
	return names
}

// pods tells of Pods that are not as their policy says, with the command for the first.
func (d *Doctor) pods(context.Context) result {
	if d.facts == nil {
		return skipped("the policies could not be read")
	}
	if slices.Contains(d.facts.Unread, status.NoRight+status.ListPods) {
		return skipped("%s", status.NoRight+status.ListPods)
	}
	// What keeps an access that it may not have comes first.
	kinds := []string{"revoked", "uninjected", "outdated"}
	wrong, injected := map[string][]status.Group{}, 0
	var conflicts []string
	for _, p := range status.Make(d.ofTarget()).Policies {
		if d.Target.Kind == Policy && p.Name != d.Target.Name {
			continue
		}
		injected += p.Pods
		for i, groups := range [][]status.Group{p.Revoked, p.Uninjected, p.Outdated} {
			wrong[kinds[i]] = append(wrong[kinds[i]], groups...)
		}
		conflicts = append(conflicts, p.Conflicts...)
	}
	for _, kind := range kinds {
		if len(wrong[kind]) == 0 {
			continue
		}
		first := slices.MinFunc(wrong[kind], func(a, b status.Group) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Owner.String(), b.Owner.String()))
		})
		why := fmt.Sprintf("%d outdated, %d uninjected, %d revoked; the first %s are of %s in namespace %s",
			status.Count(wrong["outdated"]), status.Count(wrong["uninjected"]), status.Count(wrong["revoked"]), kind, first.Owner, first.Namespace)
		return failed(why, first.Fix, first.Command).looking(d.Kubectl.BucketAccess("status -A"))
	}
	if len(conflicts) > 0 {
		return warned("asked for and not given: "+list(conflicts), "look at each with kubectl bucket-access doctor", "")
	}
	return fine("%d injected, all up to date", injected)
}

// ofTarget are the facts less other ServiceAccounts and their Pods, where the target is one.
func (d *Doctor) ofTarget() *status.Facts {
	if d.Target.Kind != ServiceAccount {
		return d.facts
	}
	facts, name := *d.facts, types.NamespacedName{Namespace: d.Target.Namespace, Name: d.Target.Name}
	facts.Accounts = map[types.NamespacedName]inject.ServiceAccountView{}
	if account, known := d.facts.Accounts[name]; known {
		facts.Accounts[name] = account
	}
	facts.Pods = nil
	for i := range d.facts.Pods {
		if p := &d.facts.Pods[i]; p.Namespace == name.Namespace && p.ServiceAccount == name.Name {
			facts.Pods = append(facts.Pods, *p)
		}
	}
	return &facts
}

// clusterIssuer reads the cluster's issuer, where the facts have none.
func (d *Doctor) clusterIssuer(ctx context.Context) (string, error) {
	if d.facts.Cluster.Issuer != "" {
		return d.facts.Cluster.Issuer, nil
	}
	return watch.ReadIssuer(ctx, d.Clients.Discovery().RESTClient())
}
