package v1alpha1

// Group is the API group of the policy document and the prefix of every label
// and annotation that is ours.
const Group = "bucket-access.io"

// What people set.
const (
	// LabelPolicy names the policy on a Pod, a ServiceAccount or a Namespace.
	LabelPolicy = Group + "/policy"
	// PolicyNone, as the value of LabelPolicy on a Pod or a ServiceAccount, opts
	// out of what stands above it.
	PolicyNone = "none"
	// LabelPolicies marks a ConfigMap in the webhook's namespace as holding
	// policies (value PoliciesTrue) or last good documents (PoliciesLastGood).
	LabelPolicies    = Group + "/policies"
	PoliciesTrue     = "true"
	PoliciesLastGood = "last-good"

	// AnnotationSkipContainers and AnnotationIncludeContainers choose containers
	// by name; CSV, not trimmed, as EKS reads its own.
	AnnotationSkipContainers    = Group + "/skip-containers"
	AnnotationIncludeContainers = Group + "/include-containers"
	// AnnotationReader, "true" or "false", asks for the demo reader or declines it,
	// whatever the policy says.
	AnnotationReader = Group + "/reader"
)

// What the webhook writes.
const (
	// LabelInjected on a Pod names the policy that was injected.
	LabelInjected = Group + "/injected"
	// AnnotationStatus on a Pod is the JSON record of what was written.
	AnnotationStatus = Group + "/status"
	// AnnotationManaged on a ServiceAccount is a JSON object: annotation key to
	// the value that we wrote. A value equal to its record is ours.
	AnnotationManaged = Group + "/managed"
	// LabelServiceAccountPolicy is the mark that the API server itself puts on a
	// Pod of a labelled ServiceAccount (serviceAccountPods.mode: Policy). A hint:
	// a person can write it too, so the ServiceAccount decides.
	LabelServiceAccountPolicy = Group + "/serviceaccount-policy"
)

// EKS's own names, used on purpose: the SDKs, EKS's webhook and other tools know them.
const (
	EKSAnnotationRoleARN              = "eks.amazonaws.com/role-arn"
	EKSAnnotationAudience             = "eks.amazonaws.com/audience"
	EKSAnnotationSTSRegionalEndpoints = "eks.amazonaws.com/sts-regional-endpoints"
	EKSAnnotationTokenExpiration      = "eks.amazonaws.com/token-expiration"
	EKSAnnotationSkipContainers       = "eks.amazonaws.com/skip-containers"
	EKSLabelPodIdentity               = "eks.amazonaws.com/pod-identity"

	// TokenVolume is the projected volume, TokenMountPath where it is mounted.
	TokenVolume    = "aws-iam-token"
	TokenMountPath = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
	TokenFileName  = "token"

	// TokenFile and TokenFileWindows are what AWS_WEB_IDENTITY_TOKEN_FILE says.
	TokenFile        = TokenMountPath + "/" + TokenFileName
	TokenFileWindows = `C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token`

	// PodIdentityVolume is what EKS Pod Identity adds to a Pod.
	PodIdentityVolume = "eks-pod-identity-token"
)

// Environment variables that are injected.
const (
	EnvRoleARN              = "AWS_ROLE_ARN"
	EnvTokenFile            = "AWS_WEB_IDENTITY_TOKEN_FILE"
	EnvRegion               = "AWS_REGION"
	EnvDefaultRegion        = "AWS_DEFAULT_REGION"
	EnvSTSRegionalEndpoints = "AWS_STS_REGIONAL_ENDPOINTS"
	EnvRoleSessionName      = "AWS_ROLE_SESSION_NAME"
	EnvMetadataDisabled     = "AWS_EC2_METADATA_DISABLED"
	EnvEndpointS3           = "AWS_ENDPOINT_URL_S3"
	EnvEndpointSTS          = "AWS_ENDPOINT_URL_STS"
	EnvBucketName           = "BUCKET_NAME"
	EnvBucketRegion         = "BUCKET_REGION"
	EnvBucketPrefix         = "BUCKET_PREFIX"

	// EnvContainerCredentialsURI is EKS Pod Identity's.
	EnvContainerCredentialsURI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
)

// InjectedEnv returns the names of all variables that are injected by default.
func InjectedEnv() []string {
	return []string{
		EnvRoleARN, EnvTokenFile, EnvRegion, EnvDefaultRegion, EnvSTSRegionalEndpoints, EnvRoleSessionName, EnvMetadataDisabled,
		EnvEndpointS3, EnvEndpointSTS, EnvBucketName, EnvBucketRegion, EnvBucketPrefix,
	}
}

// StaticCredentialEnv returns the variables that every AWS SDK prefers to web
// identity, so that one of them in a container defeats the injected role.
func StaticCredentialEnv() []string {
	return []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
	}
}

// The demo reader's sidecar.
const (
	ReaderContainer = "bucket-access-reader"
	// ReaderCommand is the program in the reader's image.
	ReaderCommand = "/bucket-access-reader"
	// ReaderPort is where it listens, on the loopback address only: a port that IANA has
	// given to nobody, below the range from which Linux takes ports for connections.
	ReaderPort = 21840
)

// Bounds of the projected token's lifetime, in seconds: the API server refuses
// less than 600, EKS caps at 86,400.
const (
	MinTokenExpirationSeconds     = 600
	MaxTokenExpirationSeconds     = 86400
	DefaultTokenExpirationSeconds = 3600
	// DefaultAudience is the audience that STS expects.
	DefaultAudience = "sts.amazonaws.com"
)
