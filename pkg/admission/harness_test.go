package admission

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
)

// post sends a body to an entry's handler over HTTP.
func post(tb testing.TB, service *Service, entry Entry, body string) *httptest.ResponseRecorder {
	tb.Helper()
	request := httptest.NewRequest(http.MethodPost, entry.Path()+"?timeout=10s", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	NewServer(service, DefaultLimits(), nullRecorder{}, logr.Discard()).Handler(entry).ServeHTTP(w, request)
	return w
}

// ask sends a review and reads the answer as an API server does.
func ask(tb testing.TB, service *Service, entry Entry, body string) *admissionv1.AdmissionResponse {
	tb.Helper()
	w := post(tb, service, entry, body)
	if w.Code != http.StatusOK {
		tb.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil {
		tb.Fatalf("the answer is no AdmissionReview: %v\n%s", err, w.Body)
	}
	if review.Response == nil || review.Kind != "AdmissionReview" || review.APIVersion != "admission.k8s.io/v1" {
		tb.Fatalf("the answer is no AdmissionReview: %s", w.Body)
	}
	return review.Response
}

// patched applies the answer's patch to the object.
func patched(tb testing.TB, object string, response *admissionv1.AdmissionResponse) string {
	tb.Helper()
	if len(response.Patch) == 0 {
		return object
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		tb.Fatalf("the patch can't be read: %v\n%s", err, response.Patch)
	}
	result, err := patch.Apply([]byte(object))
	if err != nil {
		tb.Fatalf("the patch can't be applied: %v\n%s", err, response.Patch)
	}
	return string(result)
}

// applies says whether the JSON patch library can work on the document at all: it
// takes neither every repeated key nor every empty name that the reader lets pass
// in parts that it does not look into.
func applies(document []byte) bool {
	var pod struct {
		Metadata, Spec map[string]json.RawMessage
	}
	return json.Unmarshal(document, &pod) == nil && pod.Metadata != nil && pod.Spec != nil
}
