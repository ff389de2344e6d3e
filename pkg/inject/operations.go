package inject

import (
	"bytes"
	"maps"
	"slices"
	"strconv"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// Operations are the plan as RFC 6902 operations against the Pod that view was
// read from. Fine ones, not whole containers: fields that this program does not
// know survive, and an audit log shows what was done.
func (p *Plan) Operations(view *PodView) []patch.Operation {
	if p == nil {
		return nil
	}
	count := 4
	for _, edit := range p.Containers {
		count += len(edit.Env) + 1
	}
	operations := append(make([]patch.Operation, 0, count), p.Volume.operations(view)...)
	for _, edit := range p.Containers {
		operations = edit.operations(operations, view)
	}
	operations = p.Reader.operations(operations, view)
	operations = mapOperations(operations, "/metadata/labels", view.HasLabels, p.Labels)
	return mapOperations(operations, "/metadata/annotations", view.HasAnnotations, p.Annotations)
}

func (v VolumeEdit) operations(view *PodView) []patch.Operation {
	at := patch.Pointer("/spec/volumes")
	if v.Append {
		value := []byte(`{"name":"` + v1alpha1.TokenVolume + `","projected":{"sources":[{"serviceAccountToken":{"audience":`)
		value = patch.AppendString(value, v.Audience)
		value = append(value, `,"expirationSeconds":`...)
		value = strconv.AppendInt(value, v.Expiration, 10)
		value = append(value, `,"path":"`+v1alpha1.TokenFileName+`"}}]}}`...)
		return appendToList(nil, at, view.HasVolumes, value)
	}
	if v.Remove {
		return []patch.Operation{patch.Remove(at.Index(v.Index))}
	}
	token := at.Index(v.Index) + "/projected/sources/0/serviceAccountToken"
	var operations []patch.Operation
	if v.SetAudience {
		operations = append(operations, patch.Add(token.Child("audience"), patch.String(v.Audience)))
	}
	if v.SetExpiration {
		operations = append(operations, patch.Add(token.Child("expirationSeconds"), strconv.AppendInt(nil, v.Expiration, 10)))
	}
	return operations
}

func (e ContainerEdit) operations(operations []patch.Operation, view *PodView) []patch.Operation {
	at := patch.Pointer("/spec/" + e.List + "/" + strconv.Itoa(e.Index)) // one string, where many are made
	c := &view.containers(e.List)[e.Index]
	env := at.Child("env")
	for _, edit := range e.Env {
		if !edit.Remove && edit.Index != appendEnv {
			operations = append(operations, setEntry(env.Index(edit.Index), c.Env[edit.Index].Value, edit.Value)...)
		}
	}
	operations = appendEnvEntries(operations, env, c.HasEnv, e.Env)
	for _, edit := range e.Env {
		if edit.Remove {
			operations = append(operations, patch.Remove(env.Index(edit.Index)))
		}
	}
	if e.Unmount > 0 {
		operations = append(operations, patch.Remove(at.Child("volumeMounts").Index(e.Unmount-1)))
	}
	if e.Mount {
		operations = appendToList(operations, at.Child("volumeMounts"), c.HasMounts, tokenMount)
	}
	return operations
}

// appendEnvEntries appends the new entries.
func appendEnvEntries(operations []patch.Operation, at patch.Pointer, exists bool, edits []EnvEdit) []patch.Operation {
	end := at.End()
	list := []byte{'['}
	for _, edit := range edits {
		switch {
		case edit.Index != appendEnv:
		case exists:
			operations = append(operations, patch.Add(end, edit.rendered()))
		default:
			if len(list) > 1 {
				list = append(list, ',')
			}
			list = append(list, edit.rendered()...)
		}
	}
	if len(list) == 1 {
		return operations
	}
	return append(operations, patch.Add(at, append(list, ']')))
}

// rendered is the JSON of a new entry.
func (e EnvEdit) rendered() []byte {
	if e.entry != nil {
		return e.entry
	}
	return appendEntry(nil, e.Name, e.Value)
}

var tokenMount = []byte(`{"name":"` + v1alpha1.TokenVolume + `","readOnly":true,"mountPath":"` + v1alpha1.TokenMountPath + `"}`)

func (p *PodView) containers(list string) []Container {
	switch list {
	case "initContainers":
		return p.InitContainers
	case "ephemeralContainers":
		return p.EphemeralContainers
	default:
		return p.Containers
	}
}

// appendToList appends values at the end of a list, which is created once where
// it is absent, null or empty.
func appendToList(operations []patch.Operation, at patch.Pointer, exists bool, values ...[]byte) []patch.Operation {
	if len(values) == 0 {
		return operations
	}
	if exists {
		end := at.End()
		for _, value := range values {
			operations = append(operations, patch.Add(end, value))
		}
		return operations
	}
	list := append([]byte{'['}, bytes.Join(values, []byte{','})...)
	return append(operations, patch.Add(at, append(list, ']')))
}

// appendEntry appends the JSON of an env entry as the API server would write it.
func appendEntry(dst []byte, name string, value EnvValue) []byte {
	dst = append(dst, `{"name":`...)
	dst = patch.AppendString(dst, name)
	if value.literal() {
		dst = append(dst, `,"value":`...)
		dst = patch.AppendString(dst, value.Text)
	} else {
		dst = append(dst, `,"valueFrom":`...)
		dst = value.appendFrom(dst)
	}
	return append(dst, '}')
}

// setEntry changes the value of an existing entry and nothing else in it.
func setEntry(at patch.Pointer, before, after EnvValue) []patch.Operation {
	var operations []patch.Operation
	if after.literal() {
		if !before.literal() {
			operations = append(operations, patch.Remove(at.Child("valueFrom")))
		}
		return append(operations, patch.Add(at.Child("value"), patch.String(after.Text)))
	}
	if before.Text != "" { // emptied, not removed: the API takes an empty value beside valueFrom
		operations = append(operations, patch.Add(at.Child("value"), []byte(`""`)))
	}
	return append(operations, patch.Add(at.Child("valueFrom"), after.appendFrom(nil)))
}

// mapOperations sets and removes keys of labels or annotations.
func mapOperations(operations []patch.Operation, at patch.Pointer, exists bool, edits []KeyEdit) []patch.Operation {
	if len(edits) == 0 {
		return operations
	}
	if !exists {
		value := []byte{'{'}
		for _, edit := range edits {
			if edit.Set {
				if len(value) > 1 {
					value = append(value, ',')
				}
				value = append(patch.AppendString(value, edit.Key), ':')
				value = patch.AppendString(value, edit.Value)
			}
		}
		return append(operations, patch.Add(at, append(value, '}')))
	}
	for _, edit := range edits {
		if edit.Set {
			operations = append(operations, patch.Add(at.Child(edit.Key), patch.String(edit.Value)))
		} else {
			operations = append(operations, patch.Remove(at.Child(edit.Key)))
		}
	}
	return operations
}

// AnnotationOperations are edits of an object's annotations as operations; exists
// says whether the object has annotations at all.
func AnnotationOperations(exists bool, edits map[string]decide.Label) []patch.Operation {
	sorted := make([]KeyEdit, 0, len(edits))
	for _, key := range slices.Sorted(maps.Keys(edits)) {
		sorted = append(sorted, KeyEdit{key, edits[key]})
	}
	return mapOperations(nil, "/metadata/annotations", exists, sorted)
}
