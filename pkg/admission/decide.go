package admission

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// Request is one object that is about to be created.
type Request struct {
	Entry           Entry
	Namespace, Name string
	Object          []byte // JSON
}

// Decision is what the webhook says of a Request.
type Decision struct {
	decide.Verdict

	Operations []patch.Operation // against Request.Object
	Warnings   []string          // as people read them
}

// Decide answers a request as an API server's is answered: the object goes through the
// same reading, judging and planning, inside a review that is made around it.
func (s *Service) Decide(ctx context.Context, request Request) (Decision, error) {
	resource := "pods"
	if request.Entry == ServiceAccounts {
		resource = "serviceaccounts"
	}
	body := fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"request":{"uid":"offline","operation":"CREATE","resource":{"group":"","version":"v1","resource":%q},`,
		reviewKind, reviewVersion, resource)
	body = patch.AppendString(append(body, `"namespace":`...), request.Namespace)
	body = patch.AppendString(append(body, `,"name":`...), request.Name)
	body = append(append(append(body, `,"object":`...), request.Object...), "}}"...)
	_, result, refused := s.review(ctx, request.Entry, &scratch{body: body})
	switch {
	case refused != nil:
		return Decision{}, refused
	case result.Kind == decide.Error:
		return Decision{}, errors.New(result.Message)
	}
	decision := Decision{Verdict: result.Verdict, Operations: result.operations}
	for _, warning := range result.warnings {
		decision.Warnings = append(decision.Warnings, sentence(warning))
	}
	return decision, nil
}

// review reads the review in buffers and answers it.
func (s *Service) review(ctx context.Context, entry Entry, buffers *scratch) (review, answer, *refusal) {
	t := s.target(entry)
	rev, err := readReview(buffers, t)
	switch {
	case err != nil:
		return rev, answer{}, &refusal{http.StatusBadRequest, decide.ReasonMalformedRequest, "malformed AdmissionReview: " + err.Error()}
	case !t.expects(&rev):
		return rev, answer{}, &refusal{http.StatusBadRequest, decide.ReasonUnsupportedRequest, fmt.Sprintf(
			"%s does not serve %.20q of %.60q %.60q", entry.Path(), rev.operation, rev.resource, rev.subResource)}
	}
	return rev, t.answer(ctx, &rev), nil
}
