package admission

import (
	"context"
	"fmt"
	"slices"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// accountTarget answers for ServiceAccount CREATE and UPDATE.
type accountTarget struct {
	service      *Service
	account, old inject.ServiceAccountView
	exists       bool
	deleting     bool
}

func (t *accountTarget) object(r *reader) (err error) {
	t.exists, t.deleting, err = readAccount(r, &t.account)
	return err
}

func (t *accountTarget) oldObject(r *reader) error {
	_, _, err := readAccount(r, &t.old)
	return err
}

func (t *accountTarget) expects(rev *review) bool {
	return t.exists && rev.resource == "serviceaccounts" && rev.subResource == "" &&
		(rev.operation == "CREATE" || rev.operation == "UPDATE")
}

func (t *accountTarget) answer(ctx context.Context, rev *review) answer {
	if rev.name != "" {
		t.account.Name = rev.name
	}
	t.account.Namespace, t.old.Namespace, t.old.Name = rev.namespace, rev.namespace, t.account.Name
	// One whose name the API server has yet to generate is the reconciler's to judge.
	if t.deleting || t.account.Name == "" {
		return answer{Verdict: decide.Verdict{Kind: decide.Skip, Reason: decide.ReasonNotRequested}, subject: t.account.Name}
	}
	var snapshot *policy.Snapshot
	verdict, err := t.service.decide(ctx, func(current *policy.Snapshot) decide.Verdict {
		snapshot = current
		return t.judge(&t.account, current)
	})
	if err != nil {
		return failed(unread("the policies", err))
	}
	outcome := inject.ServiceAccount(t.account, verdict)
	// What was wrong before the update is not the update's fault: a controller that
	// touches the object, or a finalizer that goes, must not be refused for it.
	if outcome.Kind == decide.Deny && rev.operation == "UPDATE" && t.account.Policy == t.old.Policy &&
		inject.ServiceAccount(t.old, t.judge(&t.old, snapshot)).Message == outcome.Message {
		outcome.Kind = decide.Skip
		outcome.Warnings = append(outcome.Warnings, inject.Warning{Reason: inject.WarnRequestUnmet, Text: outcome.Message})
	}
	result := answer{Verdict: outcome.Verdict, warnings: outcome.Warnings, subject: t.account.Name}
	if outcome.Kind != decide.Deny {
		result.operations = inject.AnnotationOperations(t.account.HasAnnotations, outcome.Annotations)
	}
	if outcome.Kind == decide.Inject && rev.operation == "UPDATE" && t.account.Policy != t.old.Policy {
		result.warnings = append(result.warnings, t.service.predating(
			ctx, t.account.Namespace, t.account.Name, t.account.Policy.Value, fmt.Sprintf("of ServiceAccount %q", t.account.Name))...)
	}
	return result
}

func (t *accountTarget) judge(account *inject.ServiceAccountView, snapshot *policy.Snapshot) decide.Verdict {
	return decide.ServiceAccount(account.Namespace, account.Name, account.Policy, snapshot, t.service.Cluster.Facts())
}

// readAccount reads one ServiceAccount, keeping the annotations that matter.
func readAccount(r *reader, account *inject.ServiceAccountView) (exists, deleting bool, err error) {
	keep := append(inject.AccountAnnotations(), v1alpha1.AnnotationManaged)
	exists, err = r.object(func(key string) error {
		if key != "metadata" {
			return r.skip()
		}
		_, err := r.object(func(key string) (err error) {
			switch key {
			case "name":
				account.Name, err = r.str()
			case "deletionTimestamp":
				var at string
				at, err = r.str()
				deleting = at != ""
			case "labels":
				var labels map[string]string
				labels, _, err = r.strings(func(key string) bool { return key == v1alpha1.LabelPolicy })
				account.Policy = decide.LabelOf(labels, v1alpha1.LabelPolicy)
			case "annotations":
				account.Annotations, account.HasAnnotations, err = r.strings(func(key string) bool { return slices.Contains(keep, key) })
			default:
				err = r.skip()
			}
			return err
		})
		return err
	})
	return exists, deleting, err
}
