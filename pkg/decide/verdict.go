package decide

import "github.com/bucket-access/bucket-access-webhook/pkg/policy"

// Kind is one of four.
type Kind string

// The kinds of verdict.
const (
	Skip   Kind = "skip"   // leave the object as it is
	Inject Kind = "inject" // write what the policy says
	Deny   Kind = "deny"   // refuse, with a sentence that names the fix
	Error  Kind = "error"  // no answer could be found; the entry's failure policy decides
)

// Reason is the short form of why: a closed set for metrics, logs and audit annotations.
type Reason string

// The reasons of verdicts.
const (
	ReasonInjected           Reason = "Injected"
	ReasonNotRequested       Reason = "NotRequested"
	ReasonOptedOut           Reason = "OptedOut"
	ReasonMirrorPod          Reason = "MirrorPod"
	ReasonUnknownPolicy      Reason = "UnknownPolicy"
	ReasonInvalidPolicy      Reason = "InvalidPolicy"
	ReasonSubjectNotListed   Reason = "SubjectNotListed"
	ReasonIssuerMismatch     Reason = "IssuerMismatch"
	ReasonStaticCredentials  Reason = "StaticCredentials"
	ReasonIdentityConflict   Reason = "IdentityConflict"
	ReasonVolumeConflict     Reason = "VolumeConflict"
	ReasonInvalidExpiration  Reason = "InvalidExpiration"
	ReasonValidPolicies      Reason = "ValidPolicies"
	ReasonMalformedRequest   Reason = "MalformedRequest"
	ReasonLookupFailed       Reason = "LookupFailed"
	ReasonNotReady           Reason = "NotReady"
	ReasonOverloaded         Reason = "Overloaded"
	ReasonInternal           Reason = "Internal"
	ReasonRemoved            Reason = "Removed"
	ReasonUnsupportedRequest Reason = "UnsupportedRequest"
)

// Reasons lists every reason, the closed set of the metric's label.
func Reasons() []Reason {
	return []Reason{
		ReasonInjected, ReasonNotRequested, ReasonOptedOut, ReasonMirrorPod, ReasonUnknownPolicy, ReasonInvalidPolicy,
		ReasonSubjectNotListed, ReasonIssuerMismatch, ReasonStaticCredentials, ReasonIdentityConflict, ReasonVolumeConflict,
		ReasonInvalidExpiration, ReasonValidPolicies, ReasonMalformedRequest, ReasonLookupFailed, ReasonNotReady,
		ReasonOverloaded, ReasonInternal, ReasonRemoved, ReasonUnsupportedRequest,
	}
}

// Source is where the label that counts stands.
type Source string

// The sources of a request, nearest first.
const (
	FromPod            Source = "pod"
	FromServiceAccount Source = "serviceaccount"
	FromNamespace      Source = "namespace"
)

// Verdict is the answer for one object.
type Verdict struct {
	Kind   Kind
	Reason Reason
	// Message is the long form for the person; empty when there is nothing to say.
	Message string
	// PolicyName and Source say which label counted; empty when none did.
	PolicyName string
	Source     Source
	// Policy is set for Inject.
	Policy *policy.Policy
}

// Explicit says that somebody asked for this very object: such a request fails
// loudly, an implied one never breaks what did not ask.
func (v Verdict) Explicit() bool { return v.Source == FromPod || v.Source == FromServiceAccount }

// Refuse turns a request that can't be met into a denial if it is explicit, else
// into a skip whose message becomes an admission warning.
func (v Verdict) Refuse(reason Reason, message string) Verdict {
	v.Kind, v.Reason, v.Message, v.Policy = Skip, reason, "bucket-access: "+message, nil
	if v.Explicit() {
		v.Kind = Deny
	} else {
		v.Message += " (asked for by the label on the Namespace; the Pod goes through without bucket access)"
	}
	return v
}
