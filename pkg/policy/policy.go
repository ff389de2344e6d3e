package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// Policy is one checked policy with its defaults filled in. Never changed after Parse.
type Policy struct {
	Name              string
	Bucket            string
	Region            string
	Role              iam.RoleARN
	Subjects          Subjects
	Audience          string
	TokenExpiration   int64 // seconds
	Prefix            string
	Actions           []string
	KMSKeyARN         string
	Issuer            string
	Env               v1alpha1.EnvNames
	Endpoints         v1alpha1.Endpoints
	StaticCredentials v1alpha1.StaticCredentials
	InstanceMetadata  v1alpha1.InstanceMetadata
	Reader            v1alpha1.Reader
	// Hash is 64 hex digits over what is injected into a Pod: a Pod whose hash is
	// another one is outdated. Subjects are not part of it.
	Hash string
}

// hash is the SHA-256 of the canonical JSON of what is injected: all of it, as what is rendered
// once is kept by the hash. The field order
// is the format: changing it makes every running Pod look outdated.
func (p *Policy) hash() string {
	canonical, err := json.Marshal(struct {
		Role, Audience   string
		Expiration       int64
		Region, Bucket   string
		Prefix           string
		Env              v1alpha1.EnvNames
		Endpoints        v1alpha1.Endpoints
		InstanceMetadata v1alpha1.InstanceMetadata
	}{p.Role.String(), p.Audience, p.TokenExpiration, p.Region, p.Bucket, p.Prefix, p.Env, p.Endpoints, p.InstanceMetadata})
	if err != nil {
		panic("policy: strings and numbers always marshal: " + err.Error())
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}

// Subjects answers who may use a policy. Exact subjects are looked up, patterns
// are tried one after the other.
type Subjects struct {
	all      []v1alpha1.Subject
	exact    map[v1alpha1.Subject]struct{}
	patterns []v1alpha1.Subject
}

// NewSubjects indexes list.
func NewSubjects(list []v1alpha1.Subject) Subjects {
	s := Subjects{all: list, exact: make(map[v1alpha1.Subject]struct{}, len(list))}
	for _, subject := range list {
		if iam.HasWildcard(subject.Namespace) || iam.HasWildcard(subject.ServiceAccount) {
			s.patterns = append(s.patterns, subject)
		} else {
			s.exact[subject] = struct{}{}
		}
	}
	return s
}

// All returns the subjects in the order they were written.
func (s Subjects) All() []v1alpha1.Subject { return s.all }

// Allow says whether the ServiceAccount may use the policy.
func (s Subjects) Allow(namespace, serviceAccount string) bool {
	if _, ok := s.exact[v1alpha1.Subject{Namespace: namespace, ServiceAccount: serviceAccount}]; ok {
		return true
	}
	for _, pattern := range s.patterns {
		if iam.Like(pattern.Namespace, namespace) && iam.Like(pattern.ServiceAccount, serviceAccount) {
			return true
		}
	}
	return false
}

// Reach says whether any ServiceAccount of the namespace may use the policy.
func (s Subjects) Reach(namespace string) bool {
	return slices.ContainsFunc(s.all, func(subject v1alpha1.Subject) bool { return iam.Like(subject.Namespace, namespace) })
}

// In returns the ServiceAccount names (or patterns) that are listed for namespace by
// its own name, and the number of all others. A subject whose namespace is a pattern
// is not one namespace's own: its name may be another team's.
func (s Subjects) In(namespace string) (names []string, others int) {
	for _, subject := range s.all {
		if subject.Namespace == namespace {
			names = append(names, subject.ServiceAccount)
		} else {
			others++
		}
	}
	return names, others
}

// TrustPolicy is the trust policy of the role in the bucket's account, for clusters
// with these token issuers.
func (p *Policy) TrustPolicy(issuers ...string) (iam.Document, error) {
	document, err := iam.TrustPolicy(iam.Trust{Role: p.Role, Issuers: issuers, Audience: p.Audience, Subjects: p.Subjects.All()})
	if err != nil {
		return iam.Document{}, fmt.Errorf("trust policy of %q: %w", p.Name, err)
	}
	return document, nil
}

// Grant is what the role may do with the bucket.
func (p *Policy) Grant() iam.Grant {
	return iam.Grant{Role: p.Role, Bucket: p.Bucket, Region: p.Region, Prefix: p.Prefix, Actions: p.Actions, KMSKeyARN: p.KMSKeyARN}
}

// RolePolicyName is the name of the inline policy that gives the role the Grant. It holds
// the policy's own, so that no other policy with the same role writes over it.
func (p *Policy) RolePolicyName() string { return "bucket-access-" + p.Name }
