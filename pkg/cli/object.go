package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// object is one object of a document: what is read of it, and where it stands.
type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`

	text json.RawMessage // all of it
	at   patch.Pointer   // inside the document
}

type metadata struct {
	Name         string            `json:"name"`
	GenerateName string            `json:"generateName"`
	Namespace    string            `json:"namespace"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
}

func (o *object) String() string {
	name := o.Metadata.Name
	if name == "" {
		name = o.Metadata.GenerateName + "*"
	}
	return o.Kind + "/" + name
}

// objectsOf lists the objects of a document: itself, or a List's items.
func objectsOf(document []byte, at patch.Pointer) ([]*object, error) {
	var list struct {
		object

		Items []json.RawMessage `json:"items"`
	}
	if len(document) == 0 || document[0] != '{' {
		return nil, nil // no object: nobody's business here
	}
	if err := json.Unmarshal(document, &list); err != nil {
		return nil, fmt.Errorf("is no Kubernetes object: %w", err)
	}
	if !strings.HasSuffix(list.Kind, "List") || list.Items == nil {
		o := list.object
		o.text, o.at = document, at
		return []*object{&o}, nil
	}
	var all []*object
	for i, item := range list.Items {
		found, err := objectsOf(item, at.Child("items").Index(i))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// templates are the kinds whose controllers make Pods, and where the template stands.
var templates = map[string][]string{
	"apps/Deployment": {"spec", "template"}, "apps/StatefulSet": {"spec", "template"}, "apps/DaemonSet": {"spec", "template"},
	"apps/ReplicaSet": {"spec", "template"}, "/ReplicationController": {"spec", "template"},
	"batch/Job": {"spec", "template"}, "batch/CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// question is an object as the webhook is asked about it.
type question struct {
	admission.Request

	at        patch.Pointer // where in the document the answer's operations are meant
	bare      bool          // there is no metadata there
	misplaced bool          // the label is on a workload's own metadata, and not on its template's
}

// question is nil for what the webhook is never asked about.
func (o *object) question(namespace string) (*question, error) {
	group, _, grouped := strings.Cut(o.APIVersion, "/")
	if !grouped {
		group = ""
	}
	q := &question{Request: admission.Request{Entry: admission.Pods, Namespace: namespace, Name: o.Metadata.Name, Object: o.text}, at: o.at}
	switch kind := group + "/" + o.Kind; {
	case kind == "/Pod":
		return q, nil
	case kind == "/ServiceAccount":
		q.Entry = admission.ServiceAccounts
		return q, nil
	case templates[kind] != nil:
		q.Name = ""
		for _, key := range templates[kind] {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(q.Object, &fields); err != nil || fields[key] == nil {
				return nil, fmt.Errorf("%s has no %s", o, strings.Join(templates[kind], "."))
			}
			q.at, q.Object = q.at.Child(key), fields[key]
		}
		return q, q.pod(o)
	}
	return nil, nil //nolint:nilnil // as it says
}

// pod makes the Pod that a controller makes of a template: named like its owner, which
// decides whether its name does for a session's.
func (q *question) pod(owner *object) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(q.Object, &fields); err != nil || fields == nil {
		return fmt.Errorf("the Pod template of %s is no object", owner)
	}
	meta := map[string]any{}
	if text := fields["metadata"]; len(text) > 0 {
		if err := json.Unmarshal(text, &meta); err != nil {
			return fmt.Errorf("the Pod template of %s has no proper metadata: %w", owner, err)
		}
	}
	if q.bare = fields["metadata"] == nil || meta == nil; q.bare {
		meta = map[string]any{}
	}
	labels, _ := meta["labels"].(map[string]any)
	_, labelled := labels[v1alpha1.LabelPolicy]
	_, q.misplaced = owner.Metadata.Labels[v1alpha1.LabelPolicy]
	q.misplaced = q.misplaced && !labelled
	if owner.Kind == "StatefulSet" {
		meta["name"] = owner.Metadata.Name + "-0"
	} else {
		meta["generateName"] = owner.Metadata.Name + "-"
	}
	var err error
	fields["apiVersion"], fields["kind"] = json.RawMessage(`"v1"`), json.RawMessage(`"Pod"`)
	if fields["metadata"], err = json.Marshal(meta); err == nil {
		q.Object, err = json.Marshal(fields)
	}
	return err
}
