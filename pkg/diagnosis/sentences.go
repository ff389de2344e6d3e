package diagnosis

import "strings"

// sentence is what is said of a cause; {names} are filled in from the facts.
type sentence struct{ title, fix string }

// Of makes a diagnosis of a cause; detail says what was found.
func Of(cause Cause, f Facts, detail string) Diagnosis {
	s, known := sentences[cause]
	if !known {
		cause, s = Unexpected, sentences[Unexpected]
	}
	sub, aud, iss := "the token's sub", "the token's aud", "the token's iss"
	if f.Claims != nil {
		sub, aud, iss = f.Claims.Subject, strings.Join(f.Claims.Audiences, ", "), f.Claims.Issuer
	}
	named := func(text, other string) string {
		if text == "" {
			return other
		}
		return text
	}
	within := "" // a policy without a prefix is of the whole bucket
	if f.Prefix != "" {
		within = ", within the prefix " + f.Prefix
	}
	fill := strings.NewReplacer("{role}", named(f.Role, "the policy's role"), "{bucket}", named(f.Bucket, "the bucket"),
		"{region}", named(f.Region, "the policy's region"), "{key}", named(f.Key, "the object"),
		"{prefix}", named(f.Prefix, "the policy's prefix"), "{within}", within,
		"{file}", named(f.TokenFile, "the token file"), "{sub}", sub, "{aud}", aud, "{iss}", iss,
		"{sts}", named(f.STSEndpoint, "AWS's regional endpoint"), "{s3}", named(f.S3Endpoint, "AWS's endpoint"))
	return Diagnosis{Cause: cause, Title: s.title, Detail: detail, Fix: fill.Replace(s.fix)}
}

// Causes lists every cause.
func Causes() []Cause {
	causes := make([]Cause, 0, len(sentences))
	for cause := range sentences {
		causes = append(causes, cause)
	}
	return causes
}

var sentences = map[Cause]sentence{
	NotInjected: {
		"The Pod has no role or token to ask with",
		"Label the Pod, its ServiceAccount or its Namespace with bucket-access.io/policy and create the Pod anew; a Pod that " +
			"ran before the label is not changed.",
	},
	StaticCredentials: {
		"Static credentials or a profile are in the way of the role",
		"Remove the variables named here from the container, also from what envFrom brings in: AWS SDKs prefer them to the " +
			"role {role}.",
	},
	NodeRole: {
		"The credentials are the node's, not the policy's role",
		"Label the Pod so that it gets {role}, and keep the policy's instanceMetadata at Deny, so that a failure never falls " +
			"back to the node.",
	},
	ContainerCredentials: {
		"The credentials are EKS Pod Identity's or ECS's, not the policy's role",
		"Remove the Pod Identity association of the ServiceAccount, or the policy's label: a Pod has one identity.",
	},
	TokenFileMissing: {
		"The token file is not there",
		"Mount the volume aws-iam-token at {file}: create the Pod anew with the policy's label, and look for include- or " +
			"skip-containers annotations that leave this container out.",
	},
	TokenFileUnreadable: {
		"The token file can't be read",
		"Let the container's user read {file}: set securityContext.fsGroup, or run as one user in all containers.",
	},
	TokenMalformed: {
		"The token file holds no token",
		"Mount the projected volume aws-iam-token at {file}; no other file does.",
	},
	TokenExpired: {
		"The token has expired",
		"The kubelet replaces the token at 80 % of its life: look at the kubelet of this node, at its clock, and whether the " +
			"Pod's ServiceAccount still exists.",
	},
	WrongIssuer: {
		"The token is of another cluster than the policy is for",
		"Set the policy's issuer to {iss}, and create the OIDC provider of this cluster in the bucket's account.",
	},
	WrongSubject: {
		"The token is of a ServiceAccount that the policy does not list",
		"Run the Pod with a listed serviceAccountName, or add {sub} to the policy's subjects and to the trust policy of {role}.",
	},
	WrongAudience: {
		"The token is for another audience",
		"Create the Pod anew so that its token is requested for the policy's audience, and list that audience as a client ID " +
			"of the OIDC provider in the bucket's account.",
	},
	ProviderMissing: {
		"The bucket's account has no OIDC provider for this cluster",
		"Create an IAM OIDC provider for {iss} in the account of {role}; the provider in the cluster's own account does not " +
			"count.",
	},
	ProviderThumbprint: {
		"The issuer's certificate is not the one that the OIDC provider knows",
		"Update the thumbprint of the OIDC provider for {iss} in the account of {role}.",
	},
	IssuerUnreachable: {
		"STS can't fetch the cluster's keys",
		"Let the Internet read {iss}/.well-known/openid-configuration and the keys that it names, over https on port 443.",
	},
	TokenRefused: {
		"STS refuses the token",
		"Compare the trust policy of {role} and the client IDs of its OIDC provider with the token: iss {iss}, sub {sub}, aud " +
			"{aud}.",
	},
	RoleNotTrusting: {
		"The role is not there, or does not trust this token",
		"Check that {role} exists and that its trust policy allows sts:AssumeRoleWithWebIdentity for iss {iss}, sub {sub}, aud " +
			"{aud}; generate it anew from the policy.",
	},
	InvalidRequest: {
		"AWS refuses the request as malformed",
		"Compare the role's ARN, the session's name and its duration with what AWS takes.",
	},
	STSRegionDisabled: {
		"STS is not active in this region for the bucket's account",
		"Activate STS for {region} in the account settings of IAM there.",
	},
	OtherIdentity: {
		"The credentials are of another identity than the policy's role",
		"Remove what brings the other identity; it must be {role}.",
	},
	InvalidCredentials: {
		"AWS does not know these credentials",
		"Remove static credentials from the Pod; those of the role {role} are never of this kind, unless the endpoints of STS " +
			"and S3 belong to different clouds.",
	},
	SessionExpired: {
		"The session has expired",
		"It is renewed by the next request; if it stays, look at the node's clock and at the token.",
	},
	BucketMissing: {
		"The bucket does not exist",
		"Create {bucket} in {region}, or correct the policy's bucket: it must be the name alone.",
	},
	WrongRegion: {
		"The bucket is in another region",
		"Set the policy's region to the bucket's, and create the Pod anew.",
	},
	ExplicitDenyBucketPolicy: {
		"The bucket's policy denies it explicitly",
		"Find the Deny in the bucket policy of {bucket} and except {role} from it; no Allow elsewhere can undo it.",
	},
	ExplicitDenyRolePolicy: {
		"A policy of the role denies it explicitly",
		"Find the Deny in the policies of {role} and take it away or narrow it.",
	},
	ExplicitDenyOrganization: {
		"A policy of the organization stands in the way",
		"Ask who keeps the service and resource control policies of the bucket's account to allow it for {role}.",
	},
	ExplicitDenyElsewhere: {
		"A boundary, session or endpoint policy stands in the way",
		"Look at the permissions boundary of {role} and at the policy of the VPC endpoint that this cluster uses.",
	},
	NotGranted: {
		"Nothing grants it",
		"Allow it in the permission policy of {role} (generate it anew from the policy){within}.",
	},
	MissingOrNotGranted: {
		"The object is missing or not granted",
		"S3 says 403 for a missing object too where s3:ListBucket is not granted: check that {key} exists, that the role may " +
			"s3:GetObject it, and that nothing denies it.",
	},
	NotGrantedOrDenied: {
		"It is not granted, or denied",
		"S3 gives no reason across accounts: allow it in the permission policy of {role} (generate it anew from the policy){within}, " +
			"and look for a Deny in the bucket policy of {bucket}.",
	},
	BadParameter: {
		"S3 refuses a parameter of the request",
		"Correct the request: a continuation token is one that the page before has given, for the same prefix and delimiter.",
	},
	WrongSTSEndpoint: {
		"The endpoint of STS is of another region",
		"Set the policy's endpoints.sts to one of {region}, or leave it out.",
	},
	KMSDenied: {
		"The key that encrypts the object is denied",
		"Allow kms:Decrypt to {role} both in the key's own policy and in the role's, and set the policy's kmsKeyARN.",
	},
	KMSKeyUnusable: {
		"The key that encrypts the object can't be used",
		"Enable or restore the KMS key, or encrypt the object anew.",
	},
	CustomerKey: {
		"The object is encrypted with a key that its reader must bring",
		"Store it with SSE-S3 or SSE-KMS; SSE-C is not supported here.",
	},
	KeyMissing: {
		"The object does not exist",
		"Check the key, letter by letter: {key}.",
	},
	Archived: {
		"The object is archived",
		"Restore it from its storage class first.",
	},
	AccountDisabled: {
		"The bucket's account is disabled or has a problem",
		"Ask the owner of the account.",
	},
	OutsidePrefix: {
		"The key is outside of the policy's prefix",
		"Ask for keys that begin with {prefix}.",
	},
	InvalidKey: {
		"The key can't be an object's",
		"Use a key of 1 to 1,024 bytes of UTF-8 without control characters and without \".\" or \"..\" between slashes.",
	},
	RangeNotSatisfiable: {
		"The range is outside of the object",
		"Ask for a range within its length.",
	},
	PreconditionFailed: {
		"The object is not the one that the condition asks for",
		"Read it anew without the condition.",
	},
	MethodNotAllowed: {
		"Only GET and HEAD are served",
		"Use GET or HEAD.",
	},
	HostNotAllowed: {
		"The request names a host that is not served",
		"Use localhost or an IP address, or add the name with --allowed-hosts.",
	},
	ClockSkew: {
		"The node's clock is wrong",
		"Set the clock of the node: AWS takes requests within five minutes.",
	},
	Unreachable: {
		"The service can't be reached",
		"Check DNS, egress (NetworkPolicy, firewall, NAT, VPC endpoint) and the policy's endpoints: STS at {sts}, S3 at {s3}.",
	},
	UntrustedCertificate: {
		"The service's certificate is not trusted",
		"Check the policy's endpoints (STS at {sts}, S3 at {s3}) and whether a proxy breaks TLS open; give its CA with " +
			"AWS_CA_BUNDLE.",
	},
	TimedOut: {
		"The service did not answer in time",
		"Check egress (NetworkPolicy, firewall, NAT, VPC endpoint): a dropped connection looks like this.",
	},
	Throttled: {
		"AWS asks to slow down",
		"Wait; if it stays, spread the requests over more prefixes.",
	},
	ServiceFailure: {
		"AWS failed",
		"Wait and try again; see AWS's health dashboard.",
	},
	Overloaded: {
		"The reader has too many transfers at once",
		"Try again in a moment.",
	},
	Unexpected: {
		"Something unexpected was answered",
		"Look at the raw answer.",
	},
}
