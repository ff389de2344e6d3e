package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// rendered is one document and what became of it.
type rendered struct {
	manifest.Document

	results    []result
	faults     []fault
	operations []patch.Operation
	before     []byte // JSON; empty where nobody looks at the document
	after      []byte // JSON
}

// result is what the webhook said of one object.
type result struct {
	admission.Decision

	object     *object
	namespace  string
	assumed    bool              // neither the manifest nor a flag says the namespace
	excluded   bool              // the webhook is not asked
	operations []patch.Operation // against the document
}

// fault is what can't be judged, and at which line of its file.
type fault struct {
	line int
	err  error
}

// describe takes the Namespaces and ServiceAccounts of all manifests into account before
// any Pod is judged: as they are once the webhook has annotated them. What is wrong with
// the manifests that are rendered is said when they are.
func (o *renderOptions) describe(ctx context.Context, e *environment, service *admission.Service, around *surroundings, files []file) error {
	more, err := e.readFiles(o.accounts)
	if err != nil {
		return err
	}
	for i, file := range slices.Concat(more, files) {
		for _, document := range file.documents {
			r := o.document(ctx, e, service, document)
			if i < len(more) && len(r.faults) > 0 {
				return fmt.Errorf("%s:%d: %w", file.name, r.faults[0].line, r.faults[0].err)
			}
			objects, err := objectsOf(r.after, "")
			if err != nil {
				continue // said of r
			}
			for _, object := range objects {
				if namespace, _, err := o.namespaceOf(e, object); err == nil {
					around.add(object, namespace)
				}
			}
		}
	}
	return nil
}

// namespaceOf is the namespace that kubectl would create the object in; assumed is
// whether nobody says it.
func (o *renderOptions) namespaceOf(e *environment, object *object) (namespace string, assumed bool, err error) {
	if namespace = cmp.Or(object.Metadata.Namespace, *e.flags.Namespace); namespace != "" {
		return namespace, false, nil
	}
	if o.strictNamespace {
		return "", false, errors.New("nothing says its namespace: write metadata.namespace, or give --namespace, " +
			"which Helm takes as --post-renderer-args --namespace=NAME")
	}
	if o.policies.fromCluster {
		namespace, _, err = e.flags.ToRawKubeConfigLoader().Namespace()
		return namespace, false, err
	}
	// What is said of a manifest must not depend on whose kubeconfig is at hand.
	return metav1.NamespaceDefault, true, nil
}

// document renders one document. An object that is refused stays as it is.
func (o *renderOptions) document(ctx context.Context, e *environment, service *admission.Service, document manifest.Document) rendered {
	r := rendered{Document: document}
	tree, err := document.Tree()
	fail := func(line int, err error) {
		var where *placed
		if errors.As(err, &where) {
			line = manifest.LineAt(tree, where.at)
		}
		r.faults = append(r.faults, fault{line, err})
	}
	if err != nil {
		fail(document.Line, err)
		return r
	}
	if tree == nil || foreign(tree, judgedKind) {
		return r
	}
	if r.before, err = document.JSON(); err != nil {
		fail(document.Line, err)
		return r
	}
	r.after = r.before
	objects, err := objectsOf(r.before, "")
	if err != nil {
		fail(document.Line, err)
		return r
	}
	for _, object := range objects {
		one, err := o.judge(ctx, e, service, object)
		switch {
		case err != nil:
			fail(manifest.LineAt(tree, object.at), err)
		case one != nil:
			r.operations = append(r.operations, one.operations...)
			r.results = append(r.results, *one)
		}
	}
	if len(r.operations) > 0 {
		if r.after, err = manifest.PatchJSON(r.before, r.operations); err != nil {
			fail(document.Line, err)
			r.after, r.operations = r.before, nil
		}
	}
	return r
}

// judge asks the webhook about an object; nil is nothing to ask.
func (o *renderOptions) judge(ctx context.Context, e *environment, service *admission.Service, object *object) (*result, error) {
	ask, err := object.question()
	if ask == nil || err != nil {
		return nil, err
	}
	one := &result{object: object}
	if ask.Namespace, one.assumed, err = o.namespaceOf(e, object); err != nil {
		return nil, fmt.Errorf("%s: %w", object, err)
	}
	one.namespace = ask.Namespace
	if ask.Namespace == service.Namespace || slices.Contains(o.excluded, ask.Namespace) {
		one.excluded, one.Kind, one.Reason = true, decide.Skip, reasonExcluded
		one.Message = "left alone: the webhook does not look at namespace " + ask.Namespace
		return one, nil
	}
	if one.Decision, err = service.Decide(ctx, ask.Request); err != nil {
		return nil, ask.placed(object, err)
	}
	if ask.misplaced {
		one.Warnings = append(one.Warnings, admission.MisplacedLabel(object.Kind))
	}
	o.explain(service, &one.Decision)
	one.operations = ask.moved(one.Operations)
	return one, nil
}

// reasonExcluded is why the webhook is not asked.
const reasonExcluded decide.Reason = "ExcludedNamespace"

// explain says of a decision what is known here, and not what would be so in a cluster.
func (o *renderOptions) explain(service *admission.Service, decision *admission.Decision) {
	var here []string
	if o.image == "" && !o.imageKnown {
		here = append(here, inject.NoReaderImage, "rendered without --reader-image")
	}
	if entry, known := service.Policies.Snapshot().Lookup(decision.PolicyName); known && entry.Policy == nil && !o.policies.live() {
		var faults []string
		for _, fault := range entry.Errors {
			faults = append(faults, fault.Error())
		}
		here = append(here, decide.ErrorsInEvents, fmt.Sprintf("it says %s; for the lines: kubectl bucket-access validate -f %s",
			strings.Join(faults, "; "), strings.Join(o.policies.files, " -f ")))
	}
	replacer := strings.NewReplacer(here...)
	decision.Message = replacer.Replace(decision.Message)
	for i, warning := range decision.Warnings {
		decision.Warnings[i] = replacer.Replace(warning)
	}
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
