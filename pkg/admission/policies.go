package admission

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// policiesTarget refuses a ConfigMap whose policies have errors, with all of them.
type policiesTarget struct {
	service    *Service
	exists     bool
	uid        string
	label      decide.Label
	data       map[string]string
	binaryKeys []string
}

func (t *policiesTarget) object(r *reader) (err error) {
	t.exists, err = r.object(func(key string) (err error) {
		switch key {
		case "metadata":
			err = t.readMetadata(r)
		case "data":
			t.data, _, err = r.strings(nil)
		case "binaryData":
			_, err = r.object(func(key string) error {
				t.binaryKeys = append(t.binaryKeys, key)
				return r.skip()
			})
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

func (t *policiesTarget) readMetadata(r *reader) error {
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "uid":
			t.uid, err = r.str()
		case "labels":
			var labels map[string]string
			labels, _, err = r.strings(func(key string) bool { return key == v1alpha1.LabelPolicies })
			t.label = decide.LabelOf(labels, v1alpha1.LabelPolicies)
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

func (*policiesTarget) oldObject(r *reader) error { return r.skip() }

func (t *policiesTarget) expects(rev *review) bool {
	return t.exists && rev.resource == "configmaps" && rev.subResource == "" &&
		(rev.operation == "CREATE" || rev.operation == "UPDATE")
}

// maxErrors bounds the sentence; a ConfigMap may hold thousands of documents.
const maxErrors = 50

func (t *policiesTarget) answer(_ context.Context, rev *review) answer {
	verdict := decide.Verdict{Kind: decide.Skip, Reason: decide.ReasonNotRequested}
	if rev.namespace != t.service.Namespace || t.label.Value != v1alpha1.PoliciesTrue {
		return answer{Verdict: verdict}
	}
	configMap := policy.ConfigMap{Namespace: rev.namespace, Name: rev.name, UID: "under-review", Data: t.data, BinaryKeys: t.binaryKeys}
	reviewed := policy.Build([]policy.ConfigMap{configMap}, nil, nil)
	var faults []string
	for _, problem := range reviewed.Problems() {
		for _, err := range problem.Errors {
			faults = append(faults, err.Error())
		}
	}
	for _, entry := range reviewed.Entries() {
		for _, err := range entry.Errors {
			faults = append(faults, err.Error())
		}
	}
	verdict.Reason = decide.ReasonValidPolicies
	if len(faults) > 0 {
		verdict.Kind, verdict.Reason = decide.Deny, decide.ReasonInvalidPolicy
		verdict.Message = fmt.Sprintf("bucket-access: ConfigMap %s has %d errors and was not changed:\n- %s",
			rev.name, len(faults), strings.Join(bounded(faults), "\n- "))
		return answer{Verdict: verdict}
	}
	return answer{Verdict: verdict, warnings: t.warnings(rev, reviewed)}
}

func bounded(faults []string) []string {
	if len(faults) <= maxErrors {
		return faults
	}
	return append(slices.Clone(faults[:maxErrors]), fmt.Sprintf("and %d more", len(faults)-maxErrors))
}

// warnings says what is legal but will not do what was meant.
func (t *policiesTarget) warnings(rev *review, reviewed *policy.Snapshot) []inject.Warning {
	var warnings []inject.Warning
	warn := func(format string, args ...any) {
		warnings = append(warnings, inject.Warning{Reason: inject.WarnPolicy, Text: fmt.Sprintf(format, args...)})
	}
	issuer := t.service.Cluster.Facts().Issuer
	current := t.service.Policies.Snapshot()
	for _, entry := range reviewed.Entries() {
		if entry.Policy.Issuer != "" && issuer != "" && entry.Policy.Issuer != issuer {
			warn("data[%s].issuer is not this cluster's token issuer, %s: Pods that ask for the policy are refused here", entry.Key, issuer)
		}
		owner, known := current.Lookup(entry.Name)
		if known && owner.Source.Name != rev.name {
			warn("policy %q is defined by another ConfigMap already; of the two the older one counts", entry.Name)
		}
	}
	if len(reviewed.Entries()) == 0 {
		warn("ConfigMap %s defines no policy; its data keys would be the policies' names", rev.name)
	}
	slices.SortFunc(warnings, func(a, b inject.Warning) int { return strings.Compare(a.Text, b.Text) })
	return warnings
}
