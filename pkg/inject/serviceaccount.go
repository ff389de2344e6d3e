package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// AccountOutcome is the answer for one ServiceAccount: the annotations to set, and
// those to remove (an absent Label).
type AccountOutcome struct {
	decide.Verdict
	Annotations map[string]decide.Label
	Warnings    []Warning
}

// managed reads the record of what we wrote. An unreadable one records nothing.
func (s ServiceAccountView) managed() map[string]string {
	record := map[string]string{}
	if text := s.Annotations[v1alpha1.AnnotationManaged]; text != "" {
		if err := json.Unmarshal([]byte(text), &record); err != nil {
			return map[string]string{}
		}
	}
	return record
}

// accountKey is one annotation of EKS's that a policy decides.
type accountKey struct {
	key, value string
	identity   bool
}

func accountKeys(p *policy.Policy) []accountKey {
	return []accountKey{
		{v1alpha1.EKSAnnotationRoleARN, p.Role.String(), true},
		{v1alpha1.EKSAnnotationAudience, p.Audience, true},
		{v1alpha1.EKSAnnotationSTSRegionalEndpoints, "true", false},
		{v1alpha1.EKSAnnotationTokenExpiration, strconv.FormatInt(p.TokenExpiration, 10), false},
	}
}

// ServiceAccount works out the annotations of a ServiceAccount that decide has
// judged. A value that equals its record is ours and follows the policy; any other
// is the user's: another role or audience is refused, never overwritten, and a
// preference is kept with a warning. Where the label or the policy is gone, what
// we wrote goes. An invalid policy changes nothing: it may be mended.
func ServiceAccount(account ServiceAccountView, verdict decide.Verdict) AccountOutcome {
	outcome := AccountOutcome{Verdict: verdict}
	switch {
	case verdict.Kind == decide.Inject:
		found := &findings{}
		edits := annotate(account, verdict.Policy, found)
		if len(found.conflicts) > 0 {
			outcome.Verdict = verdict.Refuse(found.refusal())
			return outcome
		}
		outcome.Annotations, outcome.Warnings = edits, found.warnings
	case verdict.Reason == decide.ReasonInvalidPolicy:
	default:
		outcome.Annotations = unwritten(account)
		if verdict.Kind == decide.Skip && len(outcome.Annotations) > 0 {
			outcome.Reason = decide.ReasonRemoved
		}
	}
	return outcome
}

func annotate(account ServiceAccountView, p *policy.Policy, found *findings) map[string]decide.Label {
	edits := map[string]decide.Label{}
	before, record := account.managed(), map[string]string{}
	for _, want := range accountKeys(p) {
		current, exists := account.Annotations[want.key]
		recorded, written := before[want.key]
		ours := written && recorded == current
		switch {
		case !exists || ours:
			record[want.key] = want.value
			if current != want.value || !exists {
				edits[want.key] = decide.Label{Value: want.value, Set: true}
			}
		case current == want.value: // the user's own, and right: theirs it stays
		case want.identity:
			found.conflict(decide.ReasonIdentityConflict, fmt.Sprintf(
				"annotation %s is %q, but policy %q says %q; remove the annotation, or the label %s",
				want.key, current, p.Name, want.value, v1alpha1.LabelPolicy))
		default:
			found.warn(WarnKeptPreference, fmt.Sprintf(
				"annotation %s is kept in place of policy %q's value, %s", want.key, p.Name, want.value))
		}
	}
	noteManaged(account, record, edits)
	return edits
}

// noteManaged brings the record itself up to date.
func noteManaged(account ServiceAccountView, record map[string]string, edits map[string]decide.Label) {
	current, exists := account.Annotations[v1alpha1.AnnotationManaged]
	if len(record) == 0 {
		if exists {
			edits[v1alpha1.AnnotationManaged] = decide.Label{}
		}
		return
	}
	text, err := json.Marshal(record)
	if err != nil {
		panic("inject: strings always marshal: " + err.Error())
	}
	if current != string(text) {
		edits[v1alpha1.AnnotationManaged] = decide.Label{Value: string(text), Set: true}
	}
}

// unwritten removes what we wrote and nothing else: only EKS's four keys count,
// whatever a record claims.
func unwritten(account ServiceAccountView) map[string]decide.Label {
	edits := map[string]decide.Label{}
	record := account.managed()
	for _, key := range AccountAnnotations() {
		if current, exists := account.Annotations[key]; exists && current == record[key] {
			if _, written := record[key]; written {
				edits[key] = decide.Label{}
			}
		}
	}
	if _, exists := account.Annotations[v1alpha1.AnnotationManaged]; exists {
		edits[v1alpha1.AnnotationManaged] = decide.Label{}
	}
	return edits
}

// AccountAnnotations lists EKS's annotations of a ServiceAccount that are written.
func AccountAnnotations() []string {
	return slices.Clone([]string{
		v1alpha1.EKSAnnotationRoleARN, v1alpha1.EKSAnnotationAudience,
		v1alpha1.EKSAnnotationSTSRegionalEndpoints, v1alpha1.EKSAnnotationTokenExpiration,
	})
}
