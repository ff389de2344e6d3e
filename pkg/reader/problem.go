package reader

import (
	"encoding/json"
	"net/http"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// problem is an error as RFC 9457 has it, with the cause, the fix and AWS's raw answer
// as extension members.
type problem struct {
	Type   string            `json:"type"`
	Title  string            `json:"title"`
	Status int               `json:"status"`
	Detail string            `json:"detail,omitempty"`
	Cause  diagnosis.Cause   `json:"cause"`
	Fix    string            `json:"fix"`
	Answer *diagnosis.Answer `json:"answer,omitempty"`
}

// problemType is a tag URI (RFC 4151): it names the cause and leads nowhere.
const problemType = "tag:bucket-access.io,2026:problem/"

// retryAfter is asked for where waiting may help, in seconds.
const retryAfter = "2"

// refuse answers with a diagnosis. A HEAD request gets the status alone.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, d diagnosis.Diagnosis) {
	status := statusOf(d.Cause)
	s.recorder.failure(d.Cause)
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return
	}
	said := problem{
		Type: problemType + string(d.Cause), Title: d.Title, Status: status, Detail: d.Detail, Cause: d.Cause, Fix: d.Fix, Answer: d.Answer,
	}
	_ = json.NewEncoder(w).Encode(said) //nolint:errchkjson // what can fail is the connection, and there is nobody to tell
}

// statusOf is the status with which a cause is answered.
func statusOf(cause diagnosis.Cause) int {
	switch cause {
	case diagnosis.KeyMissing:
		return http.StatusNotFound
	case diagnosis.RangeNotSatisfiable:
		return http.StatusRequestedRangeNotSatisfiable
	case diagnosis.PreconditionFailed:
		return http.StatusPreconditionFailed
	case diagnosis.InvalidKey, diagnosis.BadParameter:
		return http.StatusBadRequest
	case diagnosis.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case diagnosis.HostNotAllowed:
		return http.StatusMisdirectedRequest
	case diagnosis.TimedOut, diagnosis.Unreachable, diagnosis.UntrustedCertificate, diagnosis.Throttled, diagnosis.ServiceFailure, diagnosis.Overloaded:
		return http.StatusServiceUnavailable
	case diagnosis.BucketMissing, diagnosis.WrongRegion, diagnosis.ClockSkew, diagnosis.AccountDisabled, diagnosis.Unexpected, diagnosis.InvalidRequest,
		diagnosis.STSRegionDisabled, diagnosis.WrongSTSEndpoint, diagnosis.IssuerUnreachable:
		return http.StatusBadGateway
	default: // somebody refused, or something stands in the way of the policy's identity
		return http.StatusForbidden
	}
}

// facts are those of a request, with the claims that the last proof has read.
func (s *Server) facts(key string) diagnosis.Facts {
	facts := s.config.facts()
	facts.Key = key
	if last := s.prover.last.Load(); last != nil {
		facts.Claims = last.Claims
	}
	return facts
}
