package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// rendered is one document and what became of it.
type rendered struct {
	manifest.Document

	results    []result
	operations []patch.Operation
	before     []byte // JSON
	after      []byte // JSON
}

// result is what the webhook said of one object.
type result struct {
	admission.Decision

	object     *object
	namespace  string
	operations []patch.Operation // against the document
}

// describe takes the Namespaces and ServiceAccounts of all manifests into account before
// any Pod is judged: as they are once the webhook has annotated them.
func (o *renderOptions) describe(ctx context.Context, e *environment, service *admission.Service, around *surroundings, files []file) error {
	more, err := e.readFiles(o.accounts)
	if err != nil {
		return err
	}
	for _, file := range slices.Concat(more, files) {
		for _, document := range file.documents {
			r, err := o.document(ctx, e, service, document)
			if err != nil {
				return fmt.Errorf("%s:%d: %w", file.name, document.Line, err)
			}
			objects, err := objectsOf(r.after, "")
			if err != nil {
				return fmt.Errorf("%s:%d: %w", file.name, document.Line, err)
			}
			for _, object := range objects {
				namespace, err := o.namespaceOf(e, object)
				if err != nil {
					return err
				}
				around.add(object, namespace)
			}
		}
	}
	return nil
}

// namespaceOf is the namespace that kubectl would create the object in.
func (o *renderOptions) namespaceOf(e *environment, object *object) (string, error) {
	if object.Metadata.Namespace != "" {
		return object.Metadata.Namespace, nil
	}
	if o.policies.fromCluster {
		namespace, _, err := e.flags.ToRawKubeConfigLoader().Namespace()
		return namespace, err
	}
	// What is said of a manifest must not depend on whose kubeconfig is at hand.
	if namespace := *e.flags.Namespace; namespace != "" {
		return namespace, nil
	}
	return "default", nil
}

// document renders one document. An object that is refused stays as it is.
func (o *renderOptions) document(ctx context.Context, e *environment, service *admission.Service, document manifest.Document) (rendered, error) {
	r := rendered{Document: document}
	if document.Empty() {
		return r, nil
	}
	var err error
	if r.before, err = document.JSON(); err != nil {
		return r, err
	}
	r.after = r.before
	objects, err := objectsOf(r.before, "")
	if err != nil {
		return r, err
	}
	for _, object := range objects {
		namespace, err := o.namespaceOf(e, object)
		if err != nil {
			return r, err
		}
		ask, err := object.question(namespace)
		if err != nil {
			return r, err
		}
		if ask == nil || namespace == service.Namespace || slices.Contains(o.excluded, namespace) {
			continue
		}
		decision, err := service.Decide(ctx, ask.Request)
		if err != nil {
			return r, fmt.Errorf("%s: %w", object, err)
		}
		if ask.misplaced {
			decision.Warnings = append(decision.Warnings, admission.MisplacedLabel(object.Kind))
		}
		one := result{Decision: decision, object: object, namespace: namespace, operations: ask.moved(decision.Operations)}
		r.operations = append(r.operations, one.operations...)
		r.results = append(r.results, one)
	}
	if len(r.operations) > 0 {
		r.after, err = manifest.PatchJSON(r.before, r.operations)
	}
	return r, err
}

// moved are the operations of a Pod where its template stands in the document. A template
// may lack the metadata that every Pod has.
func (q *question) moved(operations []patch.Operation) []patch.Operation {
	var out []patch.Operation
	if q.bare && len(operations) > 0 {
		out = append(out, patch.Add(q.at.Child("metadata"), []byte("{}")))
	}
	for _, operation := range operations {
		out = append(out, patch.Operation{Path: q.at + operation.Path, Value: operation.Value})
	}
	return out
}
