package admission

import (
	"context"
	"fmt"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// workloadTarget answers for what makes Pods from a template, with warnings only: what
// each of its Pods would be told is told here, to the person who applies it.
type workloadTarget struct {
	service *Service
	entry   Entry
	name    string
	label   decide.Label   // on the workload's own metadata
	pod     inject.PodView // the template
	exists  bool
}

// workloads are the resources that make Pods from a template, and their kinds.
var workloads = map[string]string{
	"apps/deployments": "Deployment", "apps/statefulsets": "StatefulSet", "apps/daemonsets": "DaemonSet",
	"apps/replicasets": "ReplicaSet", "batch/jobs": "Job", "batch/cronjobs": "CronJob",
}

func (t *workloadTarget) object(r *reader) (err error) {
	t.exists, err = r.object(func(key string) error {
		switch key {
		case "metadata":
			return t.metadata(r)
		case "spec":
			return t.template(r)
		default:
			return r.skip()
		}
	})
	return err
}

func (t *workloadTarget) metadata(r *reader) error {
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "name", "generateName":
			name, err := r.name(maxName)
			if name != "" {
				t.name = name
			}
			return err
		case "labels":
			_, err = r.object(func(key string) error {
				if key == v1alpha1.LabelPolicy {
					return r.label(&t.label)
				}
				return r.skip()
			})
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

// template reads spec.template, or a CronJob's spec.jobTemplate.spec.template.
func (t *workloadTarget) template(r *reader) error {
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "template":
			_, err = readPod(r, &t.pod)
		case "jobTemplate":
			_, err = r.object(func(key string) error {
				if key == "spec" {
					return t.template(r)
				}
				return r.skip()
			})
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

func (*workloadTarget) oldObject(r *reader) error { return r.skip() }

func (t *workloadTarget) expects(rev *review) bool {
	_, known := workloads[rev.resource]
	return t.exists && known && rev.subResource == "" && (rev.operation == "CREATE" || rev.operation == "UPDATE")
}

func (t *workloadTarget) answer(ctx context.Context, rev *review) answer {
	kind := workloads[rev.resource]
	// Of a Pod's name, a template says nothing, and its namespace is the workload's.
	t.pod.Namespace, t.pod.Name = rev.namespace, ""
	outcome, err := t.service.judge(ctx, t.entry, &t.pod)
	if err != nil {
		return unanswered()
	}
	result := answer{Verdict: warned(outcome.Verdict), subject: t.pod.ServiceAccount}
	warn := func(reason inject.WarningReason, format string, args ...any) {
		result.warnings = append(result.warnings, inject.Warning{Reason: reason, Text: fmt.Sprintf(format, args...)})
	}
	if t.label.Set && !t.pod.Policy.Set {
		result.warnings = append(result.warnings, misplacedLabel(kind))
	}
	if outcome.Kind == decide.Deny {
		warn(inject.WarnRequestUnmet, "the Pods of %s %.63q will be refused: %s", kind, t.name, strings.TrimPrefix(outcome.Message, prefix))
	}
	for _, warning := range outcome.Warnings {
		warn(warning.Reason, "of the Pods of %s %.63q: %s", kind, t.name, strings.TrimPrefix(warning.Text, prefix))
	}
	return result
}

// MisplacedLabel is what is said of a workload that has the label on its own metadata and
// not on its template's.
func MisplacedLabel(kind string) string { return sentence(misplacedLabel(kind)) }

func misplacedLabel(kind string) inject.Warning {
	return inject.Warning{Reason: inject.WarnMisplacedLabel, Text: fmt.Sprintf(
		"the label %s on a %s's own metadata does nothing: its Pods are made from %s.metadata.labels; set it there", v1alpha1.LabelPolicy, kind, templatePath(kind))}
}

func templatePath(kind string) string {
	if kind == "CronJob" {
		return "spec.jobTemplate.spec.template"
	}
	return "spec.template"
}
