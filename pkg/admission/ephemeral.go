package admission

import (
	"context"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// debugTarget answers for kubectl debug: an UPDATE of pods/ephemeralcontainers.
type debugTarget struct {
	service  *Service
	pod, old inject.PodView
	exists   bool
}

func (t *debugTarget) object(r *reader) (err error) {
	t.exists, err = readPod(r, &t.pod)
	return err
}

func (t *debugTarget) oldObject(r *reader) error {
	_, err := readPod(r, &t.old)
	return err
}

func (t *debugTarget) expects(rev *review) bool {
	return t.exists && rev.resource == "pods" && rev.subResource == "ephemeralcontainers" && rev.operation == "UPDATE"
}

func (t *debugTarget) answer(context.Context, *review) answer {
	outcome := inject.DebugContainers(&t.pod, t.old.EphemeralContainers, t.service.Policies.Snapshot())
	return answer{
		Verdict: outcome.Verdict, operations: outcome.Plan.Operations(&t.pod), warnings: outcome.Warnings, subject: t.pod.ServiceAccount,
	}
}
