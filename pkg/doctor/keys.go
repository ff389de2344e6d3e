package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errUnnamed is that of an object with more keys than its managedFields name.
var errUnnamed = errors.New("managedFields do not name all keys")

// keys are the names of the keys of a source of variables, as the API server has noted
// them with who wrote them (managedFields): the values never leave it. It is asked for what
// kubectl get shows, which says how many there are.
func (d *Doctor) keys(ctx context.Context, from corev1.EnvFromSource) (kind, name string, keys []string, err error) {
	switch {
	case from.SecretRef != nil:
		kind, name = "secret", from.SecretRef.Name
	case from.ConfigMapRef != nil:
		kind, name = "configmap", from.ConfigMapRef.Name
	default:
		return "", "", nil, nil
	}
	text, err := d.Clients.CoreV1().RESTClient().Get().Namespace(d.pod.Namespace).Resource(kind+"s").Name(name).
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Param("includeObject", string(metav1.IncludeMetadata)).DoRaw(ctx)
	if err != nil {
		return kind, name, nil, err
	}
	keys, err = keysOf(text)
	return kind, name, keys, err
}

// keysOf reads a Table of one row.
func keysOf(text []byte) (keys []string, err error) {
	var table struct {
		Columns []metav1.TableColumnDefinition `json:"columnDefinitions"`
		Rows    []struct {
			Cells  []any                        `json:"cells"`
			Object metav1.PartialObjectMetadata `json:"object"`
		} `json:"rows"`
	}
	if err := json.Unmarshal(text, &table); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(table.Columns, func(c metav1.TableColumnDefinition) bool { return c.Name == "Data" })
	if len(table.Rows) != 1 || at < 0 || at >= len(table.Rows[0].Cells) {
		return nil, errUnnamed
	}
	for _, manager := range table.Rows[0].Object.ManagedFields {
		if manager.FieldsV1 != nil {
			keys = append(keys, fieldKeys(manager.FieldsV1.GetRawBytes())...)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if count, is := table.Rows[0].Cells[at].(float64); !is || len(keys) < int(count) {
		return keys, errUnnamed
	}
	return keys, nil
}

// fieldKeys are the keys below data of one manager's fields.
func fieldKeys(fields []byte) (keys []string) {
	var owned map[string]map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(fields))
	if decoder.Decode(&owned) != nil {
		return nil
	}
	for _, part := range []string{"f:data", "f:stringData", "f:binaryData"} {
		for field := range owned[part] {
			if key, is := strings.CutPrefix(field, "f:"); is {
				keys = append(keys, key)
			}
		}
	}
	return keys
}
