package reader

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// guarded keeps out what no honest client sends. The sidecar listens where any web page
// in a browser beside it may send requests (a port-forward), so a name that resolves
// here (DNS rebinding) is refused; an IP address in the Host header can't be one.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// For every answer but a stream, which extends it for as long as it moves.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.config.IdleTimeout))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		switch {
		case !s.allowed(r.Host):
			s.refuse(w, r, diagnosis.Of(diagnosis.HostNotAllowed, s.facts(""), ""))
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			s.refuse(w, r, diagnosis.Of(diagnosis.MethodNotAllowed, s.facts(""), ""))
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (s *Server) allowed(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return s.hosts[strings.ToLower(strings.TrimSuffix(name, "."))]
}

// written remembers the status of an answer.
type written struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the first status.
func (w *written) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection's deadlines.
func (w *written) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// brokenStatus stands for a transfer that broke after its header was sent.
const brokenStatus = 499

// observed counts and logs. Keys of objects may name people: they are logged at level
// debug only, and no header is.
func (s *Server) observed(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started, route := time.Now(), route(r.URL.Path)
		answer := &written{ResponseWriter: w}
		defer func() {
			status := answer.status
			if status == 0 {
				status = http.StatusOK
			}
			fault := recover()
			if fault != nil {
				status = brokenStatus
			}
			if fault != nil && fault != any(http.ErrAbortHandler) {
				s.log.Error("A request has failed by a fault of the reader", "route", route, "fault", fmt.Sprint(fault), "stack", string(debug.Stack()))
			}
			s.recorder.request(route, status, time.Since(started))
			s.log.Debug("Request answered", "route", route, "method", r.Method, "status", status, "path", r.URL.Path,
				"duration", time.Since(started).String())
			if fault != nil {
				panic(fault) // net/http breaks the connection
			}
		}()
		next(answer, r)
	})
}

// route folds paths into a closed set.
func route(path string) string {
	switch {
	case path == "/s3/":
		return "list"
	case strings.HasPrefix(path, "/s3/"):
		return "object"
	case path == "/healthz", path == "/readyz", path == "/status", path == "/metrics":
		return path[1:]
	case path == "/", strings.HasPrefix(path, "/page/"):
		return "page"
	}
	return "other"
}

// notModifiedTag is the ETag of an answer 304.
func notModifiedTag(err error) string {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPResponse() != nil {
		return response.HTTPResponse().Header.Get("ETag")
	}
	return ""
}
