package admission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// Limits bound what the server takes on at once.
type Limits struct {
	// BodyBytes of one request. An API server takes objects of 3 MiB at most, and a
	// review holds two (object and oldObject) and about a MiB of anything else: 7 MiB.
	BodyBytes int64
	// InFlight requests, and InFlightBytes of their bodies together. What is above
	// is answered 429 at once, so memory and waiting time are bounded.
	InFlight      int64
	InFlightBytes int64
	// Timeout of a request, where the API server names none or a longer one.
	Timeout time.Duration
}

// DefaultLimits fit a container of 128 MiB.
func DefaultLimits() Limits {
	const mebi = 1 << 20
	return Limits{BodyBytes: 7 * mebi, InFlight: 256, InFlightBytes: 32 * mebi, Timeout: 10 * time.Second}
}

// Recorder counts what was answered. All labels are closed sets.
type Recorder interface {
	Admission(entry Entry, kind decide.Kind, reason decide.Reason, took time.Duration)
	Warning(entry Entry, reason inject.WarningReason)
}

// Server answers the entries over HTTP.
type Server struct {
	service  *Service
	limits   Limits
	recorder Recorder
	log      logr.Logger
	requests *semaphore.Weighted
	bytes    *semaphore.Weighted
	refusals *rate.Limiter // of log lines
	unsaid   atomic.Int64  // refusals that were not logged
	scratch  sync.Pool
	draining atomic.Bool
}

// NewServer makes a server for service.
func NewServer(service *Service, limits Limits, recorder Recorder, log logr.Logger) *Server {
	s := &Server{
		service: service, limits: limits, recorder: recorder, log: log,
		requests: semaphore.NewWeighted(limits.InFlight), bytes: semaphore.NewWeighted(limits.InFlightBytes),
		refusals: rate.NewLimiter(refusalsASecond, refusalsAtOnce),
	}
	s.scratch.New = func() any { return new(scratch) }
	return s
}

// Drain makes every further answer close its connection, so that API servers open
// new ones to other replicas before this one ends.
func (s *Server) Drain() { s.draining.Store(true) }

// Draining says whether Drain was called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Handler serves one entry.
func (s *Server) Handler(entry Entry) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		result := s.serve(w, r, entry)
		s.recorder.Admission(entry, result.Kind, result.Reason, time.Since(start))
		for _, warning := range result.warnings {
			s.recorder.Warning(entry, warning.Reason)
		}
	})
}

// refusal is an answer below the level of reviews: an HTTP status. A 429 or a 503
// with Retry-After makes API servers ask again until their own timeout, and then
// the entry's failure policy decides.
type refusal struct {
	status int
	reason decide.Reason
	text   string
}

func (f *refusal) Error() string { return f.text }

func (s *Server) serve(w http.ResponseWriter, r *http.Request, entry Entry) (result answer) {
	defer func() {
		if cause := recover(); cause != nil {
			s.log.Error(fmt.Errorf("%v", cause), "Panic while answering a review", "entry", entry) //nolint:err113 // a panic's value
			result = s.refuse(w, &refusal{http.StatusInternalServerError, decide.ReasonInternal, "internal error"})
		}
	}()
	timeout := s.timeout(r)
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	if refused := s.check(r); refused != nil {
		return s.refuse(w, refused)
	}
	buffers, _ := s.scratch.Get().(*scratch)
	defer s.recycle(buffers)
	// An API server sends a body at once. Whoever dawdles holds no more than what
	// arrived, and not for long.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(min(timeout, bodyTimeout))) // not supported by every test's writer
	body, taken, refused := s.readBody(r, buffers.body)
	defer s.bytes.Release(taken)
	if refused != nil {
		return s.refuse(w, refused)
	}
	buffers.body = body
	if !s.requests.TryAcquire(1) {
		return s.refuse(w, overloaded())
	}
	defer s.requests.Release(1)
	rev, result, refused := s.service.review(ctx, entry, buffers)
	if refused != nil {
		return s.refuse(w, refused)
	}
	s.note(entry, &rev, result)
	if result.Kind == decide.Error {
		s.refuse(w, &refusal{http.StatusServiceUnavailable, result.Reason, result.Message})
		return result
	}
	text := buffers.response(rev.uid, result)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text))) // it is sent at once
	_, _ = w.Write(text)                                      // the client is gone: nobody to tell
	return result
}

// scratch is the memory of one request, used again for the next.
type scratch struct {
	body, patch, answer []byte
	env                 []inject.EnvVar
}

// maxRecycled keeps a rare large body from being held for ever; a typical Pod has
// 22 KB, one of 20 containers 150 KB.
const maxRecycled = 256 << 10

func (s *Server) recycle(buffers *scratch) {
	if cap(buffers.body)+cap(buffers.patch)+cap(buffers.answer) <= 2*maxRecycled && cap(buffers.env) <= maxRecycled/64 {
		s.scratch.Put(buffers)
	}
}

// check checks what can be checked before the body is read.
func (s *Server) check(r *http.Request) *refusal {
	const jsonType = "application/json"
	mediaType := r.Header.Get("Content-Type")
	if mediaType != jsonType {
		mediaType, _, _ = mime.ParseMediaType(mediaType)
	}
	switch {
	case r.Method != http.MethodPost:
		return &refusal{http.StatusMethodNotAllowed, decide.ReasonUnsupportedRequest, "POST an AdmissionReview here"}
	case mediaType != jsonType:
		return &refusal{http.StatusUnsupportedMediaType, decide.ReasonUnsupportedRequest, "the Content-Type must be application/json"}
	case r.ContentLength < 0:
		return &refusal{http.StatusLengthRequired, decide.ReasonUnsupportedRequest, "the Content-Length is missing"}
	case r.ContentLength > s.limits.BodyBytes:
		return &refusal{http.StatusRequestEntityTooLarge, decide.ReasonUnsupportedRequest,
			fmt.Sprintf("the body has more than %d bytes", s.limits.BodyBytes)}
	case s.service.Policies.Snapshot() == nil:
		return &refusal{http.StatusServiceUnavailable, decide.ReasonNotReady, "policies are not loaded yet; try again"}
	}
	return nil
}

func overloaded() *refusal {
	return &refusal{http.StatusTooManyRequests, decide.ReasonOverloaded, "too many requests at once; try again"}
}

func (s *Server) refuse(w http.ResponseWriter, f *refusal) answer {
	if f.status == http.StatusTooManyRequests || f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if f.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	http.Error(w, f.text, f.status)
	return answer{Verdict: decide.Verdict{Kind: decide.Error, Reason: f.reason, Message: f.text}}
}

// What anybody can bring about fills no log: the metrics count every refusal, and the API
// server's own audit log has it.
const (
	refusalsASecond = 5
	refusalsAtOnce  = 100
)

// note logs what somebody may ask about later: names, never an object.
func (s *Server) note(entry Entry, rev *review, result answer) {
	log, message := s.log.V(1), "Review answered"
	if result.Kind == decide.Deny || result.Kind == decide.Error {
		if !s.refusals.Allow() {
			s.unsaid.Add(1)
			return
		}
		log, message = s.log, "Review refused"
		if unsaid := s.unsaid.Swap(0); unsaid > 0 {
			log = log.WithValues("unsaid", unsaid)
		}
	}
	if !log.Enabled() {
		return
	}
	log.Info(message, "entry", entry, "namespace", rev.namespace, "name", rev.name, "serviceAccount", result.subject,
		"verdict", result.Kind, "reason", result.Reason, "policy", result.PolicyName, "source", result.Source,
		"dryRun", rev.dryRun, "uid", rev.uid)
}

// timeout is the API server's own (?timeout=10s), less a tenth so that the answer
// is there before it gives up, and never more than ours.
func (s *Server) timeout(r *http.Request) time.Duration {
	text, alone := strings.CutPrefix(r.URL.RawQuery, "timeout=") // as API servers send it
	if !alone || strings.ContainsAny(text, "&;%+") {
		text = r.URL.Query().Get("timeout")
	}
	asked, err := time.ParseDuration(text)
	if err != nil || asked <= 0 {
		return s.limits.Timeout
	}
	return min(asked-asked/10, s.limits.Timeout)
}

const (
	// bodyTimeout is the time a body may take.
	bodyTimeout = 2 * time.Second
	// firstChunk is what a request takes of the limit before its body has begun.
	firstChunk = 4 << 10
)

// readBody reads exactly the announced length into buffer. It takes its share of the
// limit as the bytes arrive, not as they are announced, and returns what it took.
func (s *Server) readBody(r *http.Request, buffer []byte) (body []byte, taken int64, refused *refusal) {
	buffer = buffer[:0]
	for want := int64(firstChunk); int64(len(buffer)) < r.ContentLength; want *= 4 {
		upTo := min(want, r.ContentLength)
		if !s.bytes.TryAcquire(upTo - taken) {
			return nil, taken, overloaded()
		}
		taken = upTo
		had := len(buffer)
		buffer = slices.Grow(buffer, int(upTo)-had)[:upTo]
		switch _, err := io.ReadFull(r.Body, buffer[had:]); {
		case errors.Is(err, os.ErrDeadlineExceeded): // theirs or, where CPU is scarce, ours: it may come again
			return nil, taken, &refusal{http.StatusTooManyRequests, decide.ReasonOverloaded, "the body took too long; try again"}
		case err != nil:
			return nil, taken, &refusal{http.StatusBadRequest, decide.ReasonMalformedRequest, "the body ended early"}
		}
	}
	return buffer, taken, nil
}

// Ready says why requests can't be answered, or that they should go elsewhere.
func (s *Server) Ready() error {
	switch {
	case s.draining.Load():
		return errors.New("draining")
	case s.service.Policies.Snapshot() == nil:
		return errors.New("policies are not loaded yet")
	}
	return nil
}
