package reader

import (
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// State of a check.
type State string

// The states. Skipped: something before it failed, so nothing can be said.
const (
	OK      State = "OK"
	Fail    State = "Fail"
	Skipped State = "Skipped"
)

// Link is one link of the chain from the Pod to the bucket.
type Link string

// The links, in order.
const (
	TokenLink  Link = "token"
	STSLink    Link = "sts"
	RoleLink   Link = "role"
	BucketLink Link = "bucket"
)

// Check is one step of the proof.
type Check struct {
	ID        string               `json:"id"`
	Link      Link                 `json:"link"`
	Title     string               `json:"title"`
	State     State                `json:"state"`
	Detail    string               `json:"detail,omitempty"` // what was found, where it is fine
	Diagnosis *diagnosis.Diagnosis `json:"diagnosis,omitempty"`
}

// Report is the outcome of one proof. It holds no token and no key.
type Report struct {
	Ready     bool      `json:"ready"`
	CheckedAt time.Time `json:"checkedAt"`
	Bucket    string    `json:"bucket"`
	Region    string    `json:"region,omitempty"`
	Prefix    string    `json:"prefix,omitempty"`
	Role      string    `json:"role,omitempty"`
	// Checks in the order in which they are made; after the first Fail all are Skipped.
	Checks   []Check           `json:"checks"`
	Claims   *diagnosis.Claims `json:"claims,omitempty"`
	Identity *Identity         `json:"identity,omitempty"`
}

// Identity is who AWS says the credentials are of.
type Identity struct {
	Account string    `json:"account"`
	ARN     string    `json:"arn"`
	Expires time.Time `json:"expires"` // of the session
}

// failure is the check that failed; nil when access is proven.
func (r *Report) failure() *Check {
	for i := range r.Checks {
		if r.Checks[i].State == Fail {
			return &r.Checks[i]
		}
	}
	return nil
}

// Line is the report in one line, for kubectl describe and a terminal.
func (r *Report) Line() string {
	failed := r.failure()
	if failed == nil {
		if !r.Ready {
			return "the last proof is too old to be believed; the reader's log says why none has come since"
		}
		return "OK: bucket " + r.Bucket + " is readable as " + r.Role
	}
	d := failed.Diagnosis
	line := string(d.Cause) + ": " + d.Title
	if d.Detail != "" {
		line += " (" + d.Detail + ")"
	}
	return line + ". " + d.Fix
}
