package reader

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// object serves GET and HEAD of one object.
func (s *Server) object(w http.ResponseWriter, r *http.Request, escaped string) {
	key, wrong := s.config.parseKey(escaped)
	switch {
	case wrong != "":
		s.refuse(w, r, diagnosis.Of(diagnosis.InvalidKey, s.facts(""), wrong))
		return
	case !s.config.inPrefix(key):
		s.refuse(w, r, diagnosis.Of(diagnosis.OutsidePrefix, s.facts(key), ""))
		return
	}
	// The request's context ends when the client goes away, and the S3 call with it; until
	// S3's header is there, so it does when the time for it is over.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	inTime := time.AfterFunc(s.config.ProbeTimeout, func() { cancel(context.DeadlineExceeded) })
	defer inTime.Stop()
	if r.Method == http.MethodHead {
		s.head(ctx, w, r, key)
		return
	}
	answer, err := s.get(ctx, key, r.Header)
	if err != nil {
		s.failed(w, r, inTimeOr(ctx, err), key)
		return
	}
	inTime.Stop()
	defer answer.Body.Close()
	length := int64(unknown)
	if answer.ContentLength != nil {
		length = *answer.ContentLength
	}
	s.describe(w, r, key, described{
		length: answer.ContentLength, etag: answer.ETag, modified: answer.LastModified, contentType: answer.ContentType,
		encoding: answer.ContentEncoding, language: answer.ContentLanguage, contentRange: answer.ContentRange,
	})
	if length != 0 {
		s.stream(w, r, answer.Body, length, func() { cancel(nil) })
	}
}

// inTimeOr is err, or that the time was over: the SDK only says that it was told to stop.
func inTimeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("no answer in time: %w", cause)
	}
	return err
}

// get asks S3 for an object. If-Range is HTTP's and not S3's: the range counts only while
// the object is the same, else all of it is wanted.
func (s *Server) get(ctx context.Context, key string, h http.Header) (*s3.GetObjectOutput, error) {
	input := getInput(s.config.Bucket, key, h)
	same := h.Get("If-Range")
	switch {
	case same == "" || input.Range == nil:
		return s.clients.s3.GetObject(ctx, input)
	case strings.HasPrefix(same, `"`) && input.IfMatch == nil:
		input.IfMatch = &same
		answer, err := s.clients.s3.GetObject(ctx, input)
		if said, answered := answerOf(err); err == nil || !answered || said.Status != http.StatusPreconditionFailed {
			return answer, err
		}
		input.IfMatch = nil
	}
	input.Range = nil
	return s.clients.s3.GetObject(ctx, input)
}

func (s *Server) head(ctx context.Context, w http.ResponseWriter, r *http.Request, key string) {
	in := getInput(s.config.Bucket, key, r.Header)
	answer, err := s.clients.s3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: in.Bucket, Key: in.Key, Range: in.Range, IfMatch: in.IfMatch, IfNoneMatch: in.IfNoneMatch,
		IfModifiedSince: in.IfModifiedSince, IfUnmodifiedSince: in.IfUnmodifiedSince,
	})
	if err != nil {
		s.failed(w, r, inTimeOr(ctx, err), key)
		return
	}
	s.describe(w, r, key, described{
		length: answer.ContentLength, etag: answer.ETag, modified: answer.LastModified, contentType: answer.ContentType,
		encoding: answer.ContentEncoding, language: answer.ContentLanguage, contentRange: answer.ContentRange,
	})
}

// getInput passes the range and the conditions on; S3 judges them.
func getInput(bucket, key string, h http.Header) *s3.GetObjectInput {
	text := func(name string) *string {
		if value := h.Get(name); value != "" {
			return &value
		}
		return nil
	}
	date := func(name string) *time.Time {
		if t, err := http.ParseTime(h.Get(name)); err == nil {
			return &t
		}
		return nil // a date that can't be read is ignored, as RFC 9110 has it
	}
	return &s3.GetObjectInput{
		Bucket: &bucket, Key: &key, Range: text("Range"), IfMatch: text("If-Match"), IfNoneMatch: text("If-None-Match"),
		IfModifiedSince: date("If-Modified-Since"), IfUnmodifiedSince: date("If-Unmodified-Since"),
	}
}

// described is what S3 says of an object; nil where it says nothing.
type described struct {
	length                                              *int64
	etag, contentType, encoding, language, contentRange *string
	modified                                            *time.Time
}

// describe writes the header. Only what is named here is passed on: whoever wrote the
// object chose its metadata.
func (s *Server) describe(w http.ResponseWriter, r *http.Request, key string, d described) {
	h := w.Header()
	for name, value := range map[string]*string{
		"ETag": d.etag, "Content-Encoding": d.encoding, "Content-Language": d.language, "Content-Range": d.contentRange,
	} {
		if text := aws.ToString(value); text != "" {
			h.Set(name, text)
		}
	}
	h.Set("Content-Type", "application/octet-stream")
	if text := aws.ToString(d.contentType); text != "" {
		h.Set("Content-Type", text)
	}
	if d.modified != nil {
		h.Set("Last-Modified", d.modified.UTC().Format(http.TimeFormat))
	}
	if d.length != nil {
		h.Set("Content-Length", strconv.FormatInt(*d.length, 10))
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", "private, no-cache")
	if r.URL.Query().Get("disposition") != "inline" {
		name := key[strings.LastIndexByte(key, '/')+1:]
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	}
	status := http.StatusOK
	if d.contentRange != nil {
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
}

// failed answers an error of S3, or of the chain before it. Conditions that do not hold
// are no failures.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error, key string) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there to hear it
	}
	answer, answered := answerOf(err)
	if answered && answer.Status == http.StatusNotModified {
		if etag := notModifiedTag(err); etag != "" {
			w.Header().Set("ETag", etag)
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
	d := Diagnose(err, s.facts(key))
	switch last := s.prover.last.Load(); {
	case answered && answer.Code == "":
		d = byStatus(answer, s.facts(key), d)
	case last != nil && last.failure() != nil && last.failure().Link == TokenLink && (!answered || answer.Service == "STS"):
		// What the last proof has seen in the Pod says more than the SDK, or STS, does.
		raw := d.Answer
		d = *last.failure().Diagnosis
		d.Answer = raw
	}
	s.prover.doubt(d.Cause)
	s.refuse(w, r, d)
}

// byStatus is for answers without a body, as HEAD's are: the status says what happened
// but never why, so no cause is named that it does not prove.
func byStatus(a diagnosis.Answer, f diagnosis.Facts, d diagnosis.Diagnosis) diagnosis.Diagnosis {
	cause, ok := map[int]diagnosis.Cause{
		http.StatusNotFound: diagnosis.KeyMissing, http.StatusForbidden: diagnosis.MissingOrNotGranted,
		http.StatusPreconditionFailed: diagnosis.PreconditionFailed, http.StatusRequestedRangeNotSatisfiable: diagnosis.RangeNotSatisfiable,
	}[a.Status]
	if !ok {
		return d
	}
	d = diagnosis.Of(cause, f, "HTTP "+strconv.Itoa(a.Status)+" without a body, which tells no cause; ask with GET")
	d.Answer = &a
	return d
}
