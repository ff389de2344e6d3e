package admission

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

// discard is a ResponseWriter that costs nothing, so that the handler is measured.
type discard struct{ header http.Header }

func (d discard) Header() http.Header       { return d.header }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// BenchmarkHandler measures one review from the body to the answer, without TLS
// and HTTP: injecting by the Pod's label, and skipping (called, nothing to do).
func BenchmarkHandler(b *testing.B) {
	for _, size := range []string{"small", "typical", "big"} {
		for _, mode := range []string{"inject", "skip"} {
			b.Run(mode+"/"+size, func(b *testing.B) {
				shape := podShapes[size]
				if mode == "inject" {
					shape.labels = `,"bucket-access.io/policy":"orders"`
				}
				service, _, _ := newFakes(b)
				handler := NewServer(service, DefaultLimits(), nullRecorder{}, logr.Discard()).Handler(Pods)
				body := reviewOf(shape.json())
				reader := strings.NewReader(body)
				request := httptest.NewRequest(http.MethodPost, "/mutate/pods?timeout=10s", nil)
				request.Header.Set("Content-Type", "application/json")
				request.ContentLength = int64(len(body))
				request.Body = io.NopCloser(reader)
				w := discard{http.Header{}}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					reader.Reset(body)
					handler.ServeHTTP(w, request)
				}
			})
		}
	}
}
