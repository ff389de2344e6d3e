package diagnosis

// Cause is the short form of what is wrong: a closed set, for metrics and problem types.
type Cause string

// The causes, in the order of the chain: the environment, the token, STS, the role, the
// bucket; then what may happen anywhere.
const (
	NotInjected          Cause = "NotInjected"
	StaticCredentials    Cause = "StaticCredentials"
	NodeRole             Cause = "NodeRole"
	ContainerCredentials Cause = "ContainerCredentials"

	TokenFileMissing    Cause = "TokenFileMissing"
	TokenFileUnreadable Cause = "TokenFileUnreadable"
	TokenMalformed      Cause = "TokenMalformed"
	TokenExpired        Cause = "TokenExpired"
	WrongIssuer         Cause = "WrongIssuer"
	WrongSubject        Cause = "WrongSubject"
	WrongAudience       Cause = "WrongAudience"

	ProviderMissing    Cause = "ProviderMissing"
	ProviderThumbprint Cause = "ProviderThumbprint"
	IssuerUnreachable  Cause = "IssuerUnreachable"
	TokenRefused       Cause = "TokenRefused"
	RoleNotTrusting    Cause = "RoleNotTrusting"
	InvalidRequest     Cause = "InvalidRequest"
	STSRegionDisabled  Cause = "STSRegionDisabled"
	WrongSTSEndpoint   Cause = "WrongSTSEndpoint"

	OtherIdentity      Cause = "OtherIdentity"
	InvalidCredentials Cause = "InvalidCredentials"
	SessionExpired     Cause = "SessionExpired"

	BucketMissing            Cause = "BucketMissing"
	WrongRegion              Cause = "WrongRegion"
	ExplicitDenyBucketPolicy Cause = "ExplicitDenyBucketPolicy"
	ExplicitDenyRolePolicy   Cause = "ExplicitDenyRolePolicy"
	ExplicitDenyOrganization Cause = "ExplicitDenyOrganization"
	ExplicitDenyElsewhere    Cause = "ExplicitDenyElsewhere"
	NotGranted               Cause = "NotGranted"
	MissingOrNotGranted      Cause = "MissingOrNotGranted"
	KMSDenied                Cause = "KMSDenied"
	KMSKeyUnusable           Cause = "KMSKeyUnusable"
	CustomerKey              Cause = "CustomerKey"
	KeyMissing               Cause = "KeyMissing"
	Archived                 Cause = "Archived"
	AccountDisabled          Cause = "AccountDisabled"
	BadParameter             Cause = "BadParameter"
	NotGrantedOrDenied       Cause = "NotGrantedOrDenied"
	OutsidePrefix            Cause = "OutsidePrefix"
	InvalidKey               Cause = "InvalidKey"
	RangeNotSatisfiable      Cause = "RangeNotSatisfiable"
	PreconditionFailed       Cause = "PreconditionFailed"
	MethodNotAllowed         Cause = "MethodNotAllowed"
	HostNotAllowed           Cause = "HostNotAllowed"
	ClockSkew                Cause = "ClockSkew"
	Unreachable              Cause = "Unreachable"
	UntrustedCertificate     Cause = "UntrustedCertificate"
	TimedOut                 Cause = "TimedOut"
	Throttled                Cause = "Throttled"
	ServiceFailure           Cause = "ServiceFailure"
	Overloaded               Cause = "Overloaded"
	Unexpected               Cause = "Unexpected"
)

// Answer is what AWS said, as it was said.
type Answer struct {
	Service   string `json:"service"`             // STS or S3
	Operation string `json:"operation"`           // like AssumeRoleWithWebIdentity
	Status    int    `json:"status"`              // of HTTP
	Code      string `json:"code,omitempty"`      // of the error; empty where there was no body
	Message   string `json:"message,omitempty"`   // of the error
	RequestID string `json:"requestID,omitempty"` // for AWS's support
	// Region is the header x-amz-bucket-region, where S3 sent it.
	Region string `json:"region,omitempty"`
}

// Diagnosis says what is wrong, what was found, and what to do. The zero value says
// that nothing is.
type Diagnosis struct {
	Cause  Cause   `json:"cause"`
	Title  string  `json:"title"`            // the cause as a sentence, the same every time
	Detail string  `json:"detail,omitempty"` // what was found this time
	Fix    string  `json:"fix"`
	Answer *Answer `json:"answer,omitempty"` // the raw answer, where AWS gave one
}

// Facts are what sentences are made of: what the policy says, and where things are.
type Facts struct {
	Role, Bucket, Region, Prefix string
	Key                          string // of the object that was asked for; empty for listings
	STSEndpoint, S3Endpoint      string // empty is AWS's own
	TokenFile                    string
	Claims                       *Claims // of the token; nil when it could not be read
	Expect                       Expect
}
