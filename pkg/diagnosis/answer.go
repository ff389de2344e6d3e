package diagnosis

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// FromAnswer maps AWS's own answer to a cause. What is matched is documented by AWS;
// pkg/reader's table of answers is the specification. Where the words say nothing, the
// cause says no more than the code does.
func FromAnswer(a Answer, f Facts) Diagnosis {
	cause, detail := classify(a, f)
	if a.Operation == assumeRole && (cause == RoleNotTrusting || cause == TokenRefused || cause == WrongAudience) {
		// STS does not say which claim it minds; the token itself may.
		if wrong := Mismatch(f); wrong.Cause != "" {
			wrong.Answer = &a
			return wrong
		}
	}
	d := Of(cause, f, detail)
	d.Answer = &a
	return d
}

const assumeRole = "AssumeRoleWithWebIdentity"

func classify(a Answer, f Facts) (Cause, string) {
	if cause, ok := byCode[a.Code]; ok {
		return cause, said(a)
	}
	switch {
	case strings.HasPrefix(a.Code, "KMS.") && strings.Contains(a.Code, "AccessDenied"):
		return KMSDenied, said(a)
	case strings.HasPrefix(a.Code, "KMS."):
		return KMSKeyUnusable, said(a)
	case slices.Contains(regionCodes, a.Code) || (a.Code == "" && (a.Status == 301 || a.Status == 307)):
		return wrongRegion(a, f)
	case a.Code == "SignatureDoesNotMatch" && (strings.Contains(a.Message, "Signature expired") || strings.Contains(a.Message, "not yet current")):
		return ClockSkew, said(a)
	case a.Code == "SignatureDoesNotMatch" && a.Service == "STS" && strings.Contains(a.Message, "scoped to a valid region"):
		return WrongSTSEndpoint, said(a)
	case a.Code == "SignatureDoesNotMatch":
		return InvalidCredentials, said(a)
	case a.Code == "InvalidIdentityToken":
		return identityToken(a), said(a)
	case a.Code == "AccessDenied" || a.Code == "AccessDeniedException" || (a.Status == 403 && a.Code != ""):
		return denied(a, f), said(a)
	case a.Code == "InvalidRequest" && strings.Contains(a.Message, "Server Side Encryption"):
		return CustomerKey, said(a)
	case a.Service == "S3" && (a.Code == "InvalidArgument" || a.Code == "InvalidRequest"):
		return BadParameter, said(a)
	case a.Code == "ValidationError" || a.Code == "InvalidRequest" || a.Code == "InvalidArgument":
		return InvalidRequest, said(a)
	case a.Status == 429:
		return Throttled, said(a)
	case a.Status >= 500:
		return ServiceFailure, said(a)
	}
	return Unexpected, said(a)
}

// byCode are the codes that mean one thing. Sources: the common errors and the errors of
// AssumeRoleWithWebIdentity in the STS API Reference, and Error responses in the S3 one.
var byCode = map[string]Cause{
	"ExpiredTokenException":   TokenExpired,
	"IDPCommunicationError":   IssuerUnreachable,
	"IDPRejectedClaim":        TokenRefused,
	"RegionDisabledException": STSRegionDisabled,
	"MalformedPolicyDocument": InvalidRequest,
	"PackedPolicyTooLarge":    InvalidRequest,

	"NoSuchBucket":                BucketMissing,
	"NoSuchKey":                   KeyMissing,
	"NoSuchVersion":               KeyMissing,
	"MethodNotAllowed":            KeyMissing, // of an object: its newest version is a delete marker
	"InvalidObjectState":          Archived,
	"AllAccessDisabled":           AccountDisabled,
	"AccountProblem":              AccountDisabled,
	"NotSignedUp":                 AccountDisabled,
	"InvalidAccessKeyId":          InvalidCredentials,
	"InvalidClientTokenId":        InvalidCredentials,
	"UnrecognizedClientException": InvalidCredentials,
	"InvalidToken":                InvalidCredentials,
	"ExpiredToken":                SessionExpired,
	"TokenRefreshRequired":        SessionExpired,
	"RequestTimeTooSkewed":        ClockSkew,
	"RequestExpired":              ClockSkew,
	"InvalidRange":                RangeNotSatisfiable,
	"PreconditionFailed":          PreconditionFailed,
	"SlowDown":                    Throttled,
	"Throttling":                  Throttled,
	"ThrottlingException":         Throttled,
	"RequestLimitExceeded":        Throttled,
	"ServiceUnavailable":          ServiceFailure,
	"InternalError":               ServiceFailure,
	"InternalFailure":             ServiceFailure,
	"RequestTimeout":              TimedOut,
	"KeyTooLongError":             InvalidKey,
}

// regionCodes are S3's ways to say that the bucket is elsewhere.
var regionCodes = []string{
	"PermanentRedirect", "TemporaryRedirect", "Redirect", "MovedPermanently", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
	"BucketRegionError",
}

// AWS puts the region in single quotes, versitygw in double ones.
var expecting = regexp.MustCompile(`expecting ['"]([a-z0-9-]+)['"]`)

func wrongRegion(a Answer, f Facts) (Cause, string) {
	region := a.Region
	if m := expecting.FindStringSubmatch(a.Message); m != nil {
		region = m[1]
	}
	if a.Code == "AuthorizationHeaderMalformed" && region == "" && !strings.Contains(a.Message, "region") {
		return Unexpected, said(a)
	}
	if region != "" && region != f.Region {
		return WrongRegion, fmt.Sprintf("the bucket is in %s, the policy says %s", region, f.Region)
	}
	return WrongRegion, said(a)
}

// identityToken tells STS's reasons for InvalidIdentityToken apart.
func identityToken(a Answer) Cause {
	for _, known := range []struct {
		words string
		cause Cause
	}{
		{"No OpenIDConnect provider found", ProviderMissing},
		{"Incorrect token audience", WrongAudience},
		{"thumbprint", ProviderThumbprint},
		{"retrieve verification key", IssuerUnreachable},
		{"not a valid JWT", TokenMalformed},
		{"Issuer must be a valid URL", WrongIssuer},
		{"Token expired", TokenExpired},
	} {
		if strings.Contains(a.Message, known.words) {
			return known.cause
		}
	}
	return TokenRefused
}

// denied tells the kinds of AccessDenied apart, by the words that AWS documents for
// access denied messages (IAM User Guide, Troubleshoot access denied error messages).
// S3 uses them only inside one account or organization; elsewhere it says Access Denied.
func denied(a Answer, f Facts) Cause {
	explicit, missing := "with an explicit deny in a", "because no "
	has := func(words string) bool { return strings.Contains(a.Message, words) }
	switch {
	case a.Service == "STS" && a.Operation == assumeRole:
		return RoleNotTrusting
	case has("kms:"):
		return KMSDenied
	case has(explicit + " resource-based policy"):
		return ExplicitDenyBucketPolicy
	case has(explicit + "n identity-based policy"):
		return ExplicitDenyRolePolicy
	case has(explicit + " service control policy"), has(explicit + " resource control policy"),
		has(missing + "service control policy"), has(missing + "resource control policy"):
		return ExplicitDenyOrganization
	case has(explicit), has(missing + "permissions boundary"), has(missing + "session policy"), has(missing + "VPC endpoint policy"):
		return ExplicitDenyElsewhere
	case has(missing):
		return NotGranted
	case a.Operation == "GetObject" && f.Key != "":
		return MissingOrNotGranted
	}
	return NotGrantedOrDenied
}

// said is AWS's message as a detail, bounded.
func said(a Answer) string {
	const longest = 500
	text := strings.ToValidUTF8(a.Message, "")
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	switch {
	case text != "":
		return fmt.Sprintf("%s says: %s", a.Service, text)
	case a.Code != "":
		return fmt.Sprintf("%s says %s", a.Service, a.Code)
	}
	return fmt.Sprintf("%s answered HTTP %d", a.Service, a.Status)
}
