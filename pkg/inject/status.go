package inject

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// StatusVersion is the version of the status annotation's format.
const StatusVersion = "v1alpha1"

// Status is the annotation bucket-access.io/status: what the webhook wrote on a
// Pod. A value in the Pod that equals its record is ours; a forged record gives
// nothing, since ours are only ever replaced by the policy's values.
type Status struct {
	Version string        `json:"version"`
	Policy  string        `json:"policy"`
	Source  decide.Source `json:"source"`
	// ServiceAccount is the Pod's own: its metadata says nothing of it, and by metadata
	// alone Pods are counted. Pods of older versions lack it.
	ServiceAccount    string            `json:"serviceAccount"`
	Hash              string            `json:"hash"`
	Containers        []string          `json:"containers"`
	Audience          string            `json:"audience"`
	ExpirationSeconds int64             `json:"expirationSeconds"`
	Env               map[string]string `json:"env"`
	// Reader is the demo reader's sidecar; nil when there is none.
	Reader *ReaderRecord `json:"reader,omitempty"`
}

// ParseStatus reads the annotation. An unreadable one records nothing.
func ParseStatus(annotation string) (Status, bool) {
	if annotation == "" {
		return Status{}, false
	}
	var status Status
	if err := json.Unmarshal([]byte(annotation), &status); err != nil {
		return Status{}, false
	}
	return status, true
}

// String is the annotation's value: JSON in one key order, so that the same record
// is always the same text.
func (s Status) String() string { return s.with(string(appendStrings(nil, s.Env))) }

// with is String with the env part as it is written. By hand, because it is written for every
// Pod.
func (s Status) with(env string) string {
	out := make([]byte, 0, 512+len(env))
	text := func(before, value string) {
		out = append(out, before...)
		out = patch.AppendString(out, value)
	}
	text(`{"version":`, s.Version)
	text(`,"policy":`, s.Policy)
	text(`,"source":`, string(s.Source))
	text(`,"serviceAccount":`, s.ServiceAccount)
	text(`,"hash":`, s.Hash)
	out = append(out, `,"containers":[`...)
	for i, name := range s.Containers {
		text(separator(i), name)
	}
	text(`],"audience":`, s.Audience)
	out = append(out, `,"expirationSeconds":`...)
	out = strconv.AppendInt(out, s.ExpirationSeconds, 10)
	out = append(out, `,"env":`...)
	out = append(out, env...)
	if s.Reader != nil {
		text(`,"reader":{"name":`, s.Reader.Name)
		text(`,"hash":`, s.Reader.Hash)
		out = append(out, '}')
	}
	return string(append(out, '}'))
}

// appendStrings appends an object of strings, its keys in their order.
func appendStrings(dst []byte, values map[string]string) []byte {
	dst = append(dst, '{')
	for i, key := range slices.Sorted(maps.Keys(values)) {
		dst = append(dst, separator(i)...)
		dst = patch.AppendString(dst, key)
		dst = append(dst, ':')
		dst = patch.AppendString(dst, values[key])
	}
	return append(dst, '}')
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

const fieldRefPrefix = "fieldRef:"

// recorded is the form in which a value stands in the record.
func (v EnvValue) recorded() string {
	if v.FieldPath != "" {
		return fieldRefPrefix + v.FieldPath
	}
	return v.Text
}

// value is the inverse of recorded, for the values that we write.
func value(recorded string) EnvValue {
	if path, ok := strings.CutPrefix(recorded, fieldRefPrefix); ok {
		return EnvValue{FieldPath: path}
	}
	return EnvValue{Text: recorded}
}
