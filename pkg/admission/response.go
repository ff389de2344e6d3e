package admission

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// maxWarning is the length at which API servers may cut a warning, in bytes; the
// limit of all warnings of a request together is 4,096.
const maxWarning = 1024

// prefix begins every sentence that a person reads, so that it is known who speaks.
const prefix = "bucket-access: "

// response is the AdmissionReview that answers uid; valid until the next one.
func (s *scratch) response(uid string, a answer) []byte {
	s.patch = patch.Append(s.patch[:0], a.operations)
	s.answer = appendResponse(s.answer[:0], uid, a, s.patch)
	return s.answer
}

func appendResponse(dst []byte, uid string, a answer, operations []byte) []byte {
	dst = append(dst, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":`...)
	dst = patch.AppendString(dst, uid)
	if a.Kind == decide.Deny {
		dst = append(dst, `,"allowed":false,"status":{"status":"Failure","reason":"Forbidden","code":`...)
		dst = strconv.AppendInt(dst, http.StatusForbidden, 10)
		dst = append(dst, `,"message":`...)
		dst = patch.AppendString(dst, a.Message)
		dst = append(dst, '}')
	} else {
		dst = append(dst, `,"allowed":true`...)
		if len(a.operations) > 0 {
			dst = append(dst, `,"patchType":"JSONPatch","patch":"`...)
			dst = base64.StdEncoding.AppendEncode(dst, operations)
			dst = append(dst, '"')
		}
	}
	dst = appendWarnings(dst, a.warnings)
	dst = append(dst, `,"auditAnnotations":{"verdict":`...)
	dst = patch.AppendString(dst, string(a.Kind)+"/"+string(a.Reason))
	if a.PolicyName != "" {
		dst = append(dst, `,"policy":`...)
		dst = patch.AppendString(dst, a.PolicyName)
		dst = append(dst, `,"source":`...)
		dst = patch.AppendString(dst, string(a.Source))
	}
	return append(dst, "}}}\n"...)
}

func appendWarnings(dst []byte, warnings []inject.Warning) []byte {
	if len(warnings) == 0 {
		return dst
	}
	dst = append(dst, `,"warnings":[`...)
	for i, warning := range warnings {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = patch.AppendString(dst, sentence(warning))
	}
	return append(dst, ']')
}

// sentence is a warning as a person reads it.
func sentence(warning inject.Warning) string {
	text := warning.Text
	if !strings.HasPrefix(text, prefix) {
		text = prefix + text
	}
	if len(text) > maxWarning {
		text = text[:maxWarning-3] + "..."
	}
	return text
}
