package admission

import (
	"context"
	"fmt"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// namespaceTarget answers for Namespace CREATE and UPDATE, with warnings only: a label
// that is set or changed may name no policy, and changes nothing for what runs already.
type namespaceTarget struct {
	service  *Service
	name     string
	now, was decide.Label
	exists   bool
}

func (t *namespaceTarget) object(r *reader) (err error) {
	t.exists, err = readNamespace(r, &t.name, &t.now)
	return err
}

func (t *namespaceTarget) oldObject(r *reader) error {
	var name string
	_, err := readNamespace(r, &name, &t.was)
	return err
}

func readNamespace(r *reader, name *string, label *decide.Label) (bool, error) {
	return r.object(func(key string) error {
		if key != "metadata" {
			return r.skip()
		}
		_, err := r.object(func(key string) (err error) {
			switch key {
			case "name":
				*name, err = r.name(maxName)
			case "labels":
				_, err = r.object(func(key string) error {
					if key == v1alpha1.LabelPolicy {
						return r.label(label)
					}
					return r.skip()
				})
			default:
				err = r.skip()
			}
			return err
		})
		return err
	})
}

func (t *namespaceTarget) expects(rev *review) bool {
	return t.exists && rev.resource == "namespaces" && rev.subResource == "" && (rev.operation == "CREATE" || rev.operation == "UPDATE")
}

func (t *namespaceTarget) answer(ctx context.Context, rev *review) answer {
	if rev.name != "" {
		t.name = rev.name
	}
	if t.now == t.was {
		return answer{Verdict: decide.Verdict{Kind: decide.Skip, Reason: decide.ReasonNotRequested}}
	}
	verdict, err := t.service.decide(ctx, func(snapshot *policy.Snapshot) decide.Verdict {
		return decide.Namespace(t.name, t.now, snapshot, t.service.Cluster.Facts())
	})
	if err != nil {
		return unanswered()
	}
	result := answer{Verdict: warned(verdict)}
	switch {
	case verdict.Message != "":
		result.warnings = []inject.Warning{{Reason: inject.WarnRequestUnmet, Text: verdict.Message}}
	case verdict.Kind == decide.Inject && rev.operation == "UPDATE":
		result.warnings = t.service.predating(ctx, t.name, "", t.now.Value, fmt.Sprintf("of Namespace %q", t.name))
	}
	return result
}

// warned is the verdict of an entry that only warns: the reason tells what Pods will meet.
func warned(verdict decide.Verdict) decide.Verdict {
	verdict.Kind, verdict.Policy = decide.Skip, nil
	return verdict
}

// unanswered lets a request through of which nothing could be found out: a warning is not
// worth the time that an API server would ask again.
func unanswered() answer {
	return answer{Verdict: decide.Verdict{Kind: decide.Skip, Reason: decide.ReasonLookupFailed}}
}

// predating tells of the Pods that were there before the label. Nothing is refused where they
// can't be counted.
func (s *Service) predating(ctx context.Context, namespace, serviceAccount, policy, of string) []inject.Warning {
	pods, more, err := s.Cluster.PodsWithout(ctx, namespace, serviceAccount, policy)
	if err != nil || pods == 0 && !more {
		return nil
	}
	return []inject.Warning{predate(pods, more, of, namespace)}
}

// predate says how many Pods run without what their label has just come to ask for.
func predate(pods int, more bool, of, namespace string) inject.Warning {
	number, verb, whose := fmt.Sprintf("%d Pods", pods), "predate", "they belong"
	switch {
	case more && pods == 0: // none among those that were looked at
		number, verb = "Pods", "may predate"
	case more:
		number = "at least " + number
	case pods == 1:
		number, verb, whose = "1 Pod", "predates", "it belongs"
	}
	return inject.Warning{Reason: inject.WarnPodsPredate, Text: fmt.Sprintf(
		"%s %s %s the label and can't be changed: restart what %s to, such as by kubectl -n %s rollout restart deployment,statefulset,daemonset; "+
			"a Pod without a controller must be deleted and created again", number, of, verb, whose, namespace)}
}
