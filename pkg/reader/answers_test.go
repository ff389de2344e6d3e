package reader

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

const (
	assumedRole = "arn:aws:sts::222222222222:assumed-role/s3-reader-role/orders-api"
	user        = "User: " + assumedRole + " is not authorized to perform: "
	object      = ` on resource: "arn:aws:s3:::orders-data/2026/config.json" `
)

// awsAnswers is the specification of the diagnosis: AWS's own answers, as it documents
// them, and what each means. Sources: STS is the API Reference's errors of
// AssumeRoleWithWebIdentity and the IAM User Guide's troubleshooting of OIDC federation;
// S3 is the API Reference's Error responses; denied is "Troubleshoot access denied error
// messages" (IAM) and "Troubleshoot access denied (403 Forbidden) errors" (S3); KMS is
// that page and the KMS Developer Guide.
var awsAnswers = map[string]struct {
	operation     string
	status        int
	code, message string
	header        string // x-amz-bucket-region
	want          diagnosis.Cause
	says          string // in detail or fix
}{
	"STS: not trusted, or no such role": {"AssumeRoleWithWebIdentity", 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "", diagnosis.RoleNotTrusting, testSubject},
	"STS: no provider": {"AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for " + testIssuer, "", diagnosis.ProviderMissing,
		"provider in the cluster's own account does not count"},
	"STS: audience not a client ID":         {"AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "Incorrect token audience", "", diagnosis.WrongAudience, "client ID"},
	"STS: keys can't be fetched":            {"AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements", "", diagnosis.IssuerUnreachable, "port 443"},
	"STS: thumbprint":                       {"AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint", "", diagnosis.ProviderThumbprint, "thumbprint"},
	"STS: no JWT":                           {"AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)", "", diagnosis.TokenMalformed, "projected"},
	"STS: another reason":                   {"AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "The web identity token that was passed could not be validated by AWS.", "", diagnosis.TokenRefused, "aud sts.amazonaws.com"},
	"STS: token expired":                    {"AssumeRoleWithWebIdentity", 400, "ExpiredTokenException", "Token expired: current date/time 1732500000 must be before the expiration date/time 1732499999", "", diagnosis.TokenExpired, "80 %"},
	"STS: identity provider silent":         {"AssumeRoleWithWebIdentity", 400, "IDPCommunicationError", "The request could not be fulfilled because the identity provider (IDP) could not be reached to verify the incoming identity token.", "", diagnosis.IssuerUnreachable, "/.well-known/openid-configuration"},
	"STS: claim rejected":                   {"AssumeRoleWithWebIdentity", 403, "IDPRejectedClaim", "The identity provider (IdP) reported that authentication failed.", "", diagnosis.TokenRefused, testRole},
	"STS: session name":                     {"AssumeRoleWithWebIdentity", 400, "ValidationError", "1 validation error detected: Value 'x' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2", "", diagnosis.InvalidRequest, "roleSessionName"},
	"STS: malformed ARN":                    {"AssumeRoleWithWebIdentity", 400, "ValidationError", "Request ARN is invalid", "", diagnosis.InvalidRequest, "Request ARN is invalid"},
	"STS: region not active":                {"AssumeRoleWithWebIdentity", 403, "RegionDisabledException", "STS is not activated in this region for account:222222222222. Your account administrator can activate STS in this region using the IAM Console.", "", diagnosis.STSRegionDisabled, "eu-west-1"},
	"STS: throttled":                        {"AssumeRoleWithWebIdentity", 400, "Throttling", "Rate exceeded", "", diagnosis.Throttled, "Rate exceeded"},
	"STS: down":                             {"AssumeRoleWithWebIdentity", 503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.", "", diagnosis.ServiceFailure, ""},
	"STS: credentials unknown":              {"GetCallerIdentity", 403, "InvalidClientTokenId", "The security token included in the request is invalid.", "", diagnosis.InvalidCredentials, "static credentials"},
	"STS: signature expired":                {"GetCallerIdentity", 403, "SignatureDoesNotMatch", "Signature expired: 20261125T010000Z is now earlier than 20261125T015500Z (20261125T020000Z - 5 min.)", "", diagnosis.ClockSkew, "five minutes"},
	"STS: signature of the future":          {"GetCallerIdentity", 403, "SignatureDoesNotMatch", "Signature not yet current: 20261125T030000Z is still later than 20261125T020500Z", "", diagnosis.ClockSkew, "clock"},
	"STS: endpoint of another region":       {"GetCallerIdentity", 403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region, not 'eu-west-1'.", "", diagnosis.WrongSTSEndpoint, "endpoints.sts"},
	"STS: session expired":                  {"GetCallerIdentity", 403, "ExpiredToken", "The security token included in the request is expired", "", diagnosis.SessionExpired, "renewed"},
	"S3: no bucket":                         {"ListObjectsV2", 404, "NoSuchBucket", "The specified bucket does not exist", "", diagnosis.BucketMissing, "orders-data"},
	"S3: redirect":                          {"ListObjectsV2", 301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.", "us-west-2", diagnosis.WrongRegion, "the bucket is in us-west-2, the policy says eu-west-1"},
	"S3: signed for another region":         {"ListObjectsV2", 400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region 'eu-west-1' is wrong; expecting 'ap-south-1'", "", diagnosis.WrongRegion, "the bucket is in ap-south-1"},
	"S3: location constraint":               {"ListObjectsV2", 400, "IllegalLocationConstraintException", "The me-south-1 location constraint is incompatible for the region specific endpoint this request was sent to.", "", diagnosis.WrongRegion, "me-south-1"},
	"S3: denied across accounts":            {"ListObjectsV2", 403, "AccessDenied", "Access Denied", "", diagnosis.NotGrantedOrDenied, "reader.probeKey"},
	"S3: denied across accounts, an object": {"GetObject", 403, "AccessDenied", "Access Denied", "", diagnosis.MissingOrNotGranted, "403 for a missing object too"},
	"denied: explicitly by the bucket":      {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in a resource-based policy", "", diagnosis.ExplicitDenyBucketPolicy, "bucket policy of orders-data"},
	"denied: explicitly by the role":        {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in an identity-based policy", "", diagnosis.ExplicitDenyRolePolicy, testRole},
	"denied: explicitly by an SCP":          {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in a service control policy", "", diagnosis.ExplicitDenyOrganization, "service and resource control"},
	"denied: explicitly by an RCP":          {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in a resource control policy", "", diagnosis.ExplicitDenyOrganization, ""},
	"denied: explicitly by an endpoint":     {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in a VPC endpoint policy", "", diagnosis.ExplicitDenyElsewhere, "VPC endpoint"},
	"denied: explicitly by a boundary":      {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in a permissions boundary", "", diagnosis.ExplicitDenyElsewhere, "permissions boundary"},
	"denied: explicitly by the session":     {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "with an explicit deny in a session policy", "", diagnosis.ExplicitDenyElsewhere, "session"},
	"denied: no SCP allows":                 {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "because no service control policy allows the s3:GetObject action", "", diagnosis.ExplicitDenyOrganization, ""},
	"denied: no endpoint allows":            {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "because no VPC endpoint policy allows the s3:GetObject action", "", diagnosis.ExplicitDenyElsewhere, ""},
	"denied: no boundary allows":            {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "because no permissions boundary allows the s3:GetObject action", "", diagnosis.ExplicitDenyElsewhere, ""},
	"denied: nothing grants":                {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "because no identity-based policy allows the s3:GetObject action", "", diagnosis.NotGranted, "permission policy of " + testRole},
	"denied: nothing grants the listing":    {"ListObjectsV2", 403, "AccessDenied", user + `s3:ListBucket on resource: "arn:aws:s3:::orders-data" because no identity-based policy allows the s3:ListBucket action`, "", diagnosis.NotGranted, "s3:ListBucket"},
	"denied: no resource policy":            {"GetObject", 403, "AccessDenied", user + "s3:GetObject" + object + "because no resource-based policy allows the s3:GetObject action", "", diagnosis.NotGranted, ""},
	"KMS: key in another account":           {"GetObject", 403, "AccessDenied", user + "kms:Decrypt on the resource associated with this ciphertext because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access", "", diagnosis.KMSDenied, "both in the key's own policy"},
	"KMS: the role lacks it":                {"GetObject", 403, "AccessDenied", user + "kms:Decrypt on resource: arn:aws:kms:eu-west-1:222222222222:key/1234 because no identity-based policy allows the kms:Decrypt action", "", diagnosis.KMSDenied, "kmsKeyARN"},
	"KMS: explicitly":                       {"GetObject", 403, "AccessDenied", user + "kms:Decrypt on resource: arn:aws:kms:eu-west-1:222222222222:key/1234 with an explicit deny in a resource-based policy", "", diagnosis.KMSDenied, ""},
	"KMS: disabled":                         {"GetObject", 400, "KMS.DisabledException", "arn:aws:kms:eu-west-1:222222222222:key/1234 is disabled.", "", diagnosis.KMSKeyUnusable, "Enable"},
	"KMS: to be deleted":                    {"GetObject", 400, "KMS.KMSInvalidStateException", "arn:aws:kms:eu-west-1:222222222222:key/1234 is pending deletion.", "", diagnosis.KMSKeyUnusable, "pending deletion"},
	"S3: customer's own key":                {"GetObject", 400, "InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.", "", diagnosis.CustomerKey, "SSE-C"},
	"S3: a parameter":                       {"ListObjectsV2", 400, "InvalidArgument", "The continuation token provided is incorrect", "", diagnosis.BadParameter, "continuation token"},
	"S3: no such key":                       {"GetObject", 404, "NoSuchKey", "The specified key does not exist.", "", diagnosis.KeyMissing, "2026/config.json"},
	"S3: deleted":                           {"GetObject", 405, "MethodNotAllowed", "The specified method is not allowed against this resource.", "", diagnosis.KeyMissing, ""},
	"S3: archived":                          {"GetObject", 403, "InvalidObjectState", "The operation is not valid for the object's storage class", "", diagnosis.Archived, "Restore"},
	"S3: account disabled":                  {"GetObject", 403, "AllAccessDisabled", "All access to this object has been disabled", "", diagnosis.AccountDisabled, ""},
	"S3: clocks":                            {"GetObject", 403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", "", diagnosis.ClockSkew, "clock"},
	"S3: key ID unknown":                    {"GetObject", 403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", "", diagnosis.InvalidCredentials, ""},
	"S3: wrong signature":                   {"GetObject", 403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.", "", diagnosis.InvalidCredentials, ""},
	"S3: session expired":                   {"GetObject", 400, "ExpiredToken", "The provided token has expired.", "", diagnosis.SessionExpired, ""},
	"S3: slow down":                         {"GetObject", 503, "SlowDown", "Please reduce your request rate.", "", diagnosis.Throttled, ""},
	"S3: internal":                          {"GetObject", 500, "InternalError", "We encountered an internal error. Please try again.", "", diagnosis.ServiceFailure, "health dashboard"},
	"S3: something new":                     {"GetObject", 418, "Teapot", "I am one.", "", diagnosis.Unexpected, "I am one."},
}

// TestEachAnswerOfAWSIsUnderstood replays each answer through the AWS SDK.
func TestEachAnswerOfAWSIsUnderstood(t *testing.T) {
	for name, test := range awsAnswers {
		t.Run(name, func(t *testing.T) {
			c := injected(t, goodClaims())
			if test.operation == "GetObject" {
				c.ProbeKey = "2026/config.json"
			}
			body, headers := s3Error(test.code, test.message), []string{"X-Amz-Request-Id", "4442587FB7D0A2F9"}
			if strings.HasPrefix(name, "STS") {
				body, headers = stsError(test.code, test.message), []string{"X-Amzn-Requestid", "c6104cbe"}
			}
			if test.header != "" {
				headers = append(headers, "X-Amz-Bucket-Region", test.header)
			}
			s, _ := newTestServer(t, c, failing(test.operation, test.status, body, headers...))
			report := s.prover.chain.walk(t.Context())
			failed := report.failure()
			if failed == nil {
				t.Fatal("access is said to be proven")
			}
			d := failed.Diagnosis
			if d.Cause != test.want || !strings.Contains(d.Detail+" "+d.Fix, test.says) {
				t.Errorf("%s, want %s saying %q: %+v", d.Cause, test.want, test.says, d)
			}
			if d.Answer == nil || d.Answer.Code != test.code || d.Answer.Message != test.message || d.Answer.Status != test.status || d.Answer.RequestID == "" || d.Answer.Operation != test.operation {
				t.Errorf("the raw answer is lost: %+v", d.Answer)
			}
			if d.Title == "" || d.Fix == "" || strings.ContainsAny(d.Fix, "{}") {
				t.Errorf("no whole sentence: %+v", d)
			}
		})
	}
}

// TestTheTokensOwnClaimsTellWhatSTSDoesNot: for STS's blank refusal the cause is what
// the policy expects otherwise.
func TestTheTokensOwnClaimsTellWhatSTSDoesNot(t *testing.T) {
	for name, test := range map[string]struct {
		claim string
		value any
		want  diagnosis.Cause
		says  string
	}{
		"another subject":  {"sub", "system:serviceaccount:default:default", diagnosis.WrongSubject, `the token is of "system:serviceaccount:default:default", the policy lists "system:serviceaccount:default:api-sa"`},
		"another audience": {"aud", "https://kubernetes.default.svc", diagnosis.WrongAudience, `the token is for "https://kubernetes.default.svc", the policy expects "sts.amazonaws.com"`},
		"another issuer":   {"iss", "https://other.example.com", diagnosis.WrongIssuer, `the token is of "https://other.example.com", the policy expects "` + testIssuer + `"`},
		"expired":          {"exp", time.Now().Add(-time.Minute).Unix(), diagnosis.TokenExpired, "s ago"},
		"of the future":    {"iat", time.Now().Add(time.Hour).Unix(), diagnosis.ClockSkew, "in the future"},
	} {
		t.Run(name, func(t *testing.T) {
			claims := goodClaims()
			claims[test.claim] = test.value
			s, _ := newTestServer(t, injected(t, claims), failing("AssumeRoleWithWebIdentity", 403, stsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")))
			failed := s.prover.chain.walk(t.Context()).failure()
			if failed == nil || failed.ID != "token" || failed.Diagnosis.Cause != test.want || !strings.Contains(failed.Diagnosis.Detail, test.says) {
				t.Errorf("%+v", failed)
			}
		})
	}
}

// TestTheEnvironmentAndTheTokenFile: what is wrong before AWS is asked.
func TestTheEnvironmentAndTheTokenFile(t *testing.T) {
	t.Run("all is well", func(t *testing.T) {
		s, _ := newTestServer(t, injected(t, goodClaims()), transport(green))
		report := s.prover.chain.walk(t.Context())
		if !report.Ready || len(report.Checks) != 5 || report.Identity.ARN != assumedRole || report.Claims.Subject != testSubject {
			t.Fatalf("%+v", report)
		}
	})
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"} {
		t.Run(name, func(t *testing.T) {
			c := injected(t, goodClaims())
			s, _ := newTestServer(t, c, transport(green))
			t.Setenv(name, "planted")
			wants(t, s, "environment", diagnosis.StaticCredentials, "set: "+name)
		})
	}
	t.Run("a profile that is not there", func(t *testing.T) {
		c := injected(t, goodClaims())
		t.Setenv("AWS_PROFILE", "nobody")
		s, _ := newTestServer(t, c, transport(green)) // the SDK can't load its configuration, the reader serves
		wants(t, s, "environment", diagnosis.StaticCredentials, "set: AWS_PROFILE")
		s.prover.last.Store(s.prover.chain.walk(t.Context()))
		if w := get(t, s, "/s3/2026/x"); problemOf(t, w).Cause != diagnosis.StaticCredentials {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	t.Run("not injected", func(t *testing.T) {
		c := injected(t, goodClaims())
		os.Unsetenv("AWS_ROLE_ARN")
		os.Unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE")
		s, _ := newTestServer(t, c, transport(green))
		wants(t, s, "environment", diagnosis.NotInjected, "missing: AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE")
	})
	t.Run("the node's role", func(t *testing.T) {
		c := injected(t, goodClaims())
		os.Unsetenv("AWS_ROLE_ARN")
		os.Unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE")
		os.Unsetenv("AWS_EC2_METADATA_DISABLED")
		s, _ := newTestServer(t, c, transport(func(service, operation string, r *http.Request) (*http.Response, error) {
			switch {
			case r.URL.Path == "/latest/api/token":
				return answer(200, "imds-token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600"), nil
			case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
				return answer(200, "node-role"), nil
			case strings.Contains(r.URL.Path, "/security-credentials/"):
				return answer(200, `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIANODE","SecretAccessKey":"x","Token":"y","LastUpdated":"2026-11-25T00:00:00Z","Expiration":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`"}`), nil
			}
			return green(service, operation, r)
		}))
		wants(t, s, "environment", diagnosis.NodeRole, "EC2RoleProvider")
		if got := get(t, s, "/s3/2026/config.json"); got.Code != http.StatusForbidden || !strings.Contains(got.Body.String(), "NodeRole") {
			t.Errorf("objects are read with the node's role: %d %s", got.Code, got.Body)
		}
	})
	t.Run("EKS Pod Identity", func(t *testing.T) {
		c := injected(t, goodClaims())
		os.Unsetenv("AWS_ROLE_ARN")
		os.Unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE")
		agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"AccessKeyId":"ASIAPODS","SecretAccessKey":"x","Token":"y","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		}))
		defer agent.Close()
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL)
		s, _ := newTestServer(t, c, transport(green))
		wants(t, s, "environment", diagnosis.ContainerCredentials, "CredentialsEndpointProvider")
	})
	file := func(t *testing.T, edit func(path string)) *Server {
		t.Helper()
		c := injected(t, goodClaims())
		edit(os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE"))
		s, _ := newTestServer(t, c, transport(green))
		return s
	}
	t.Run("no token file", func(t *testing.T) {
		wants(t, file(t, func(path string) { os.Remove(path) }), "token", diagnosis.TokenFileMissing, "no such file")
	})
	t.Run("a directory in its place", func(t *testing.T) {
		wants(t, file(t, func(path string) { os.Remove(path); os.Mkdir(path, 0o700) }), "token", diagnosis.TokenFileUnreadable, "is a directory")
	})
	for name, text := range map[string]string{"empty": "", "no JWT": "hello", "half": "a.b", "no base64": "a.!.c", "no JSON": "a.aGVsbG8.c", "too long": strings.Repeat("x", 70_000), "no audience": "a.e30.c"} {
		t.Run(name, func(t *testing.T) {
			wants(t, file(t, func(path string) { os.WriteFile(path, []byte(text), 0o600) }), "token", diagnosis.TokenMalformed, "")
		})
	}
	t.Run("another identity", func(t *testing.T) {
		s, _ := newTestServer(t, injected(t, goodClaims()), failing("GetCallerIdentity", 200,
			`<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::222222222222:assumed-role/other/x</Arn><Account>222222222222</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`))
		wants(t, s, "identity", diagnosis.OtherIdentity, "assumed-role/other/x")
	})
}

// TestTheNetworkIsNamed: no answer at all.
func TestTheNetworkIsNamed(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want diagnosis.Cause
		says string
	}{
		"no such name":   {&net.DNSError{Err: "no such host", Name: "sts.eu-west-1.amazonaws.com", IsNotFound: true}, diagnosis.Unreachable, "STS: the name sts.eu-west-1.amazonaws.com can't be resolved"},
		"refused":        {&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, diagnosis.Unreachable, "STS: connection refused"},
		"no answer":      {&net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}, diagnosis.TimedOut, "STS"},
		"something else": {errors.New("the moon is full"), diagnosis.Unreachable, "STS: the moon is full"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(string, string, *http.Request) (*http.Response, error) { return nil, test.err }))
			wants(t, s, "session", test.want, test.says)
		})
	}
}

func wants(t *testing.T, s *Server, check string, cause diagnosis.Cause, says string) {
	t.Helper()
	report := s.prover.chain.walk(t.Context())
	failed := report.failure()
	if failed == nil || failed.ID != check || failed.Diagnosis.Cause != cause || !strings.Contains(failed.Diagnosis.Detail, says) {
		t.Fatalf("want %s at %s saying %q, got: %s", cause, check, says, report.Line())
	}
	after := false
	for _, c := range report.Checks {
		if after && c.State != Skipped {
			t.Errorf("%s is %s behind the first red link", c.ID, c.State)
		}
		after = after || c.State == Fail
	}
}
