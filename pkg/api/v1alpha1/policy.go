package v1alpha1

import "slices"

// APIVersion and Kind of the policy document.
const (
	APIVersion = Group + "/v1alpha1"
	Kind       = "BucketAccessPolicy"
)

// BucketAccessPolicy is the document that a person writes, one for each data key
// of a policy ConfigMap. It is plain data: pkg/policy decodes and checks it.
type BucketAccessPolicy struct {
	APIVersion string
	Kind       string
	// Bucket is the bucket's name, Region its region, RoleARN the role in the
	// bucket's account that Pods assume. All three are required.
	Bucket  string
	Region  string
	RoleARN string
	// Subjects are the ServiceAccounts that may use the policy. Required.
	Subjects []Subject
	// Audience of the projected token; default sts.amazonaws.com.
	Audience string
	// TokenExpirationSeconds of the projected token, 600 to 86400; default 3600.
	TokenExpirationSeconds int64
	// Prefix that the access is limited to; empty is the whole bucket.
	Prefix string
	// Actions that the generated permission policy allows.
	Actions []string
	// KMSKeyARN is set when objects are encrypted with a customer managed key.
	KMSKeyARN string
	// Issuer, when set, must equal the cluster's own token issuer.
	Issuer            string
	Env               EnvNames
	Endpoints         Endpoints
	StaticCredentials StaticCredentials
	InstanceMetadata  InstanceMetadata
	Reader            Reader
}

// Subject is one ServiceAccount, or several: both fields take '*' and '?' with
// the meaning of IAM's StringLike.
type Subject struct {
	Namespace      string
	ServiceAccount string
}

// EnvNames renames the variables that carry the bucket, for applications that
// already read others.
type EnvNames struct {
	BucketName   string
	BucketRegion string
	BucketPrefix string
}

// Endpoints are VPC, FIPS or S3-compatible endpoints; empty is the SDK's default.
type Endpoints struct {
	S3  string
	STS string
}

// StaticCredentials says what happens to a Pod that brings static credentials.
type StaticCredentials string

// InstanceMetadata says whether the SDK may fall back to the node's role.
type InstanceMetadata string

// Gate says what the demo reader holds back until it has access.
type Gate string

// The values of the policy's closed fields.
const (
	StaticCredentialsDeny StaticCredentials = "Deny"
	StaticCredentialsWarn StaticCredentials = "Warn"

	InstanceMetadataDeny  InstanceMetadata = "Deny"
	InstanceMetadataAllow InstanceMetadata = "Allow"

	GateNone      Gate = "None"
	GateReadiness Gate = "Readiness"
	GateStartup   Gate = "Startup"
)

// Reader configures the demo reader sidecar.
type Reader struct {
	Inject   bool
	Gate     Gate
	ProbeKey string
}

// WithDefaults returns a copy in which every field that was left out has its default.
func (p BucketAccessPolicy) WithDefaults() BucketAccessPolicy {
	fill(&p.Audience, DefaultAudience)
	fill(&p.TokenExpirationSeconds, DefaultTokenExpirationSeconds)
	if p.Actions == nil {
		p.Actions = []string{"s3:GetObject", "s3:ListBucket"}
	}
	p.Actions = slices.Clone(p.Actions)
	p.Subjects = slices.Clone(p.Subjects)
	fill(&p.Env.BucketName, EnvBucketName)
	fill(&p.Env.BucketRegion, EnvBucketRegion)
	fill(&p.Env.BucketPrefix, EnvBucketPrefix)
	fill(&p.StaticCredentials, StaticCredentialsDeny)
	fill(&p.InstanceMetadata, InstanceMetadataDeny)
	fill(&p.Reader.Gate, GateNone)
	return p
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
