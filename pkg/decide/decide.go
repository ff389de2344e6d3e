package decide

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Label is a label's value and whether it is there at all: an empty value names an
// unknown policy, an absent label asks for nothing.
type Label struct {
	Value string
	Set   bool
}

// LabelOf reads a label from a map.
func LabelOf(labels map[string]string, key string) Label {
	value, ok := labels[key]
	return Label{Value: value, Set: ok}
}

// PodRequest is what of a Pod and its surroundings decides which policy applies.
type PodRequest struct {
	Namespace      string
	ServiceAccount string
	MirrorPod      bool
	// The label bucket-access.io/policy on each of the three.
	OnPod, OnServiceAccount, OnNamespace Label
}

// Cluster is what is known of the cluster itself.
type Cluster struct {
	// Issuer is the cluster's own token issuer; empty when it could not be read,
	// and then no policy is judged by it.
	Issuer string
	// Region is where EKS's own webhook says the cluster is; empty when unknown.
	Region string
}

// Policies finds an entry by name.
type Policies interface {
	Lookup(name string) (*policy.Entry, bool)
}

// Pod decides for a Pod: its own label, else its ServiceAccount's, else its Namespace's.
func Pod(request PodRequest, policies Policies, cluster Cluster) Verdict {
	if request.MirrorPod {
		return Verdict{Kind: Skip, Reason: ReasonMirrorPod}
	}
	name, source, asked := nearest(request)
	if !asked {
		return Verdict{Kind: Skip, Reason: ReasonNotRequested}
	}
	verdict := Verdict{PolicyName: name, Source: source}
	if name == v1alpha1.PolicyNone {
		verdict.Kind, verdict.Reason = Skip, ReasonOptedOut
		return verdict
	}
	return judge(verdict, policies, cluster, unlisted(source, request.Namespace, request.ServiceAccount))
}

// Namespace decides for a Namespace that carries the label: what those of its Pods will
// meet that say nothing themselves, whatever their ServiceAccount.
func Namespace(name string, label Label, policies Policies, cluster Cluster) Verdict {
	verdict := Verdict{PolicyName: label.Value, Source: FromNamespace}
	if !label.Set || label.Value == v1alpha1.PolicyNone {
		verdict.Kind, verdict.Reason = Skip, ReasonNotRequested
		return verdict
	}
	return judge(verdict, policies, cluster, func(found *policy.Policy) string {
		if found.Subjects.Reach(name) {
			return ""
		}
		return fmt.Sprintf("policy %q lists no ServiceAccount of namespace %q; ask the platform team to add those that need the bucket to its subjects",
			found.Name, name)
	})
}

// ServiceAccount decides for a ServiceAccount that carries the label itself.
func ServiceAccount(namespace, name string, label Label, policies Policies, cluster Cluster) Verdict {
	verdict := Verdict{PolicyName: label.Value, Source: FromServiceAccount}
	if !label.Set || label.Value == v1alpha1.PolicyNone {
		verdict.Kind, verdict.Reason = Skip, ReasonNotRequested
		return verdict
	}
	return judge(verdict, policies, cluster, unlisted(FromServiceAccount, namespace, name))
}

func nearest(request PodRequest) (string, Source, bool) {
	switch {
	case request.OnPod.Set:
		return request.OnPod.Value, FromPod, true
	case request.OnServiceAccount.Set:
		return request.OnServiceAccount.Value, FromServiceAccount, true
	case request.OnNamespace.Set:
		return request.OnNamespace.Value, FromNamespace, true
	}
	return "", "", false
}

// unlisted says of a policy why the ServiceAccount may not use it; empty when it may.
func unlisted(source Source, namespace, serviceAccount string) func(*policy.Policy) string {
	return func(found *policy.Policy) string {
		if found.Subjects.Allow(namespace, serviceAccount) {
			return ""
		}
		return notListed(found, source, namespace, serviceAccount)
	}
}

// ErrorsInEvents ends the sentence on an invalid policy: in a cluster there are Events.
const ErrorsInEvents = "the platform team finds the errors in the Events of its ConfigMap"

// judge finds the policy and checks that the subject may use it.
func judge(verdict Verdict, policies Policies, cluster Cluster, unlisted func(*policy.Policy) string) Verdict {
	name := verdict.PolicyName
	entry, known := policies.Lookup(name)
	if !known {
		return verdict.Refuse(ReasonUnknownPolicy, fmt.Sprintf(
			"the label %s on the %s names policy %q, which does not exist; correct the label's value, or ask the platform team to add the policy",
			v1alpha1.LabelPolicy, where(verdict.Source), name))
	}
	if entry.Policy == nil {
		return verdict.Refuse(ReasonInvalidPolicy, fmt.Sprintf(
			"policy %q is invalid and no earlier valid version of it is known; %s", name, ErrorsInEvents))
	}
	found := entry.Policy
	if why := unlisted(found); why != "" {
		return verdict.Refuse(ReasonSubjectNotListed, why)
	}
	if found.Issuer != "" && cluster.Issuer != "" && found.Issuer != cluster.Issuer {
		return verdict.Refuse(ReasonIssuerMismatch, fmt.Sprintf(
			"policy %q names another token issuer than this cluster's, %s, so the bucket's account would refuse its tokens; "+
				"ask the platform team to correct the policy's issuer", name, cluster.Issuer))
	}
	verdict.Kind, verdict.Reason, verdict.Policy = Inject, ReasonInjected, found
	return verdict
}

func where(source Source) string {
	switch source {
	case FromPod:
		return "Pod"
	case FromServiceAccount:
		return "ServiceAccount"
	case FromNamespace:
		return "Namespace"
	}
	return "object"
}

// notListed names the subjects of the request's own namespace and only the number
// of the others: a tenant must not learn another team's names here.
func notListed(found *policy.Policy, source Source, namespace, serviceAccount string) string {
	names, others := found.Subjects.In(namespace)
	var b strings.Builder
	fmt.Fprintf(&b, "policy %q does not list system:serviceaccount:%s:%s; ", found.Name, namespace, serviceAccount)
	if len(names) == 0 {
		fmt.Fprintf(&b, "of namespace %q it lists none", namespace)
	} else {
		slices.Sort(names)
		fmt.Fprintf(&b, "of namespace %q it lists %s", namespace, strings.Join(slices.Compact(names), ", "))
	}
	if others > 0 {
		fmt.Fprintf(&b, " (and %d others elsewhere)", others)
	}
	fix := fmt.Sprintf("ask the platform team to add {namespace: %s, serviceAccount: %s} to its subjects", namespace, serviceAccount)
	if len(names) > 0 && source != FromServiceAccount {
		fix = "set the Pod's serviceAccountName to one that is listed, or " + fix
	}
	return b.String() + "; " + fix
}
