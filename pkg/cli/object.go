package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
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
	return oneLine(o.Kind + "/" + name)
}

// objectsOf lists the objects of a document: itself, or a List's items. Those of a typed
// list (PodList) need not say their kind, as kubectl has it.
func objectsOf(document []byte, at patch.Pointer) ([]*object, error) {
	return listed(document, at, typed{})
}

// typed is the kind of an object.
type typed struct{ version, kind string }

func listed(document []byte, at patch.Pointer, inherited typed) ([]*object, error) {
	var list struct {
		object

		Items []json.RawMessage `json:"items"`
	}
	if len(document) == 0 || document[0] != '{' {
		return nil, nil // no object: nobody's business here
	}
	if err := json.Unmarshal(document, &list); err != nil {
		return nil, list.wrongType(at, err)
	}
	list.APIVersion, list.Kind = cmp.Or(list.APIVersion, inherited.version), cmp.Or(list.Kind, inherited.kind)
	if !strings.HasSuffix(list.Kind, "List") || list.Items == nil {
		o := list.object
		o.text, o.at = document, at
		return []*object{&o}, nil
	}
	var all []*object
	for i, item := range list.Items {
		found, err := listed(item, at.Child("items").Index(i), typed{list.APIVersion, strings.TrimSuffix(list.Kind, "List")})
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

// wrongType is a decoder's error in the words of the manifest.
func (o *object) wrongType(at patch.Pointer, err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return fmt.Errorf("is no Kubernetes object: %w", err)
	}
	want := map[reflect.Kind]string{reflect.Map: "an object of texts", reflect.Struct: "an object", reflect.Slice: "a list"}[wrong.Type.Kind()]
	path := strings.TrimPrefix(wrong.Field, "object.")
	return &placed{
		at + patch.Pointer("/"+strings.ReplaceAll(path, ".", "/")), fmt.Errorf("%s: %s: want %s, found %s", o, path, cmp.Or(want, "a text"), wrong.Value),
	}
}

// judgedKind says whether objects of a kind matter for what is said of Pods.
func judgedKind(version, kind string) bool {
	group, _, grouped := strings.Cut(version, "/")
	if !grouped {
		group = ""
	}
	switch key := group + "/" + kind; key {
	case "/Pod", "/ServiceAccount", "/Namespace":
		return true
	default:
		return templates[key] != nil || strings.HasSuffix(kind, "List")
	}
}

// foreign says whether a document is of no kind that is looked for: it goes through as it
// is, even where it holds what no API server takes.
func foreign(root *yamlv3.Node, looked func(version, kind string) bool) bool {
	said := func(key string) []*yamlv3.Node {
		if values := manifest.Values(root, key); len(values) > 0 {
			return values
		}
		return []*yamlv3.Node{{Tag: "!!str"}}
	}
	for _, kind := range said("kind") {
		for _, version := range said("apiVersion") {
			if kind.ShortTag() != "!!str" || version.ShortTag() != "!!str" || looked(version.Value, kind.Value) {
				return false
			}
		}
	}
	return true
}

// question is nil for what the webhook is never asked about.
func (o *object) question() (*question, error) {
	group, _, grouped := strings.Cut(o.APIVersion, "/")
	if !grouped {
		group = ""
	}
	q := &question{Request: admission.Request{Entry: admission.Pods, Name: o.Metadata.Name, Object: o.text}, at: o.at}
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

// placed is an error at a place inside a document.
type placed struct {
	at  patch.Pointer
	err error
}

func (p *placed) Error() string { return p.err.Error() }

// asReview is how the webhook speaks of an object: as a part of the request that it came in.
var asReview = regexp.MustCompile(`^malformed AdmissionReview: (?:at "/request/object([^"]*)": )?`)

// placed is what the webhook can't read of an object, in the words of its manifest.
func (q *question) placed(o *object, err error) error {
	said := err.Error()
	found := asReview.FindStringSubmatch(said)
	if found == nil {
		return fmt.Errorf("%s: %w", o, err)
	}
	var path strings.Builder
	for _, token := range strings.Split(string(q.at[len(o.at):])+found[1], "/")[1:] {
		if _, err := strconv.Atoi(token); err == nil {
			path.WriteString("[" + token + "]")
		} else {
			path.WriteString("." + strings.NewReplacer("~1", "/", "~0", "~").Replace(token))
		}
	}
	where := strings.TrimPrefix(path.String(), ".")
	if where != "" {
		where += ": "
	}
	return &placed{q.at + patch.Pointer(found[1]), fmt.Errorf("%s: %s%s", o, where, said[len(found[0]):])}
}
