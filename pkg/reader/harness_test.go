package reader

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	testRole    = "arn:aws:iam::222222222222:role/teams/s3-reader-role"
	testSubject = "system:serviceaccount:default:api-sa"
	testIssuer  = "https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2"
)

// transport answers the AWS SDK's requests in place of the network: everything above it,
// the SDK's own reading of answers included, is real.
type transport func(service, operation string, r *http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Host, "sts.") {
		body, _ := io.ReadAll(r.Body)
		values := string(body)
		_, operation, _ := strings.Cut(values, "Action=")
		operation, _, _ = strings.Cut(operation, "&")
		return t("STS", operation, r)
	}
	operation := "GetObject"
	switch {
	case r.Method == http.MethodHead:
		operation = "HeadObject"
	case r.URL.Query().Get("list-type") == "2":
		operation = "ListObjectsV2"
	}
	return t("S3", operation, r)
}

func answer(status int, body string, headers ...string) *http.Response {
	response := &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	for i := 0; i < len(headers); i += 2 {
		response.Header.Set(headers[i], headers[i+1])
	}
	return response
}

// green answers for a chain in which all is well.
func green(service, operation string, _ *http.Request) (*http.Response, error) {
	switch service + "." + operation {
	case "STS.AssumeRoleWithWebIdentity":
		return answer(200, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>s3cret-of-the-session</SecretAccessKey><SessionToken>t0ken-of-the-session</SessionToken><Expiration>`+
			time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`), nil
	case "STS.GetCallerIdentity":
		return answer(200, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::222222222222:assumed-role/s3-reader-role/orders-api</Arn><UserId>AROA:orders-api</UserId><Account>222222222222</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`), nil
	case "S3.ListObjectsV2":
		return answer(200, `<ListBucketResult><EncodingType>url</EncodingType><Name>orders-data</Name><KeyCount>1</KeyCount><Contents><Key>2026/config%2B.json</Key><Size>7</Size><LastModified>2026-11-01T00:00:00Z</LastModified><ETag>"e"</ETag></Contents></ListBucketResult>`), nil
	}
	return answer(200, "content", "Content-Type", "text/plain", "ETag", `"e"`, "Content-Length", "7", "Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT"), nil
}

// failing is green but for one operation.
func failing(operation string, status int, body string, headers ...string) transport {
	return func(service, asked string, r *http.Request) (*http.Response, error) {
		if asked == operation {
			return answer(status, body, headers...), nil
		}
		return green(service, asked, r)
	}
}

// testToken is a token of these claims; nobody checks its signature here.
func testToken(claims map[string]any) string {
	payload, _ := json.Marshal(claims) //nolint:errchkjson // texts, numbers and lists
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode(payload) + "." + encode([]byte("signature-of-the-token"))
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": testIssuer, "sub": testSubject, "aud": []string{"sts.amazonaws.com"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(), "kubernetes.io": map[string]any{"pod": map[string]any{"name": "orders-api"}},
	}
}

// withoutAWS takes away what the machine's own environment says to the AWS SDK.
func withoutAWS(tb testing.TB) {
	tb.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") {
			tb.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
}

// injected sets the environment that the webhook gives, and nothing else of AWS's.
func injected(t *testing.T, claims map[string]any) *Config {
	t.Helper()
	withoutAWS(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(testToken(claims)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_ROLE_ARN": testRole, "AWS_WEB_IDENTITY_TOKEN_FILE": file, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
		"AWS_STS_REGIONAL_ENDPOINTS": "regional", "AWS_ROLE_SESSION_NAME": "orders-api", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", "HOME": t.TempDir(),
	} {
		t.Setenv(name, value)
	}
	c := &Config{
		Bucket: "orders-data", Prefix: "2026/", Environment: os.LookupEnv, ProbeInterval: time.Minute, ProbeTimeout: 10 * time.Second, IdleTimeout: 5 * time.Second, MaxTransfers: 8,
	}
	c.Expect.Audience, c.Expect.Issuer, c.Expect.Subjects = "sts.amazonaws.com", testIssuer, []string{testSubject}
	return c
}

// newTestServer sets a server up over a transport; its log goes to the buffer.
func newTestServer(t *testing.T, c *Config, via http.RoundTripper) (*Server, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	s, err := newServer(t.Context(), c, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), via)
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// get asks the handler; headers are name, value, name, value.
func get(t *testing.T, s *Server, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	return ask(t, s, http.MethodGet, target, headers...)
}

func ask(t *testing.T, s *Server, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost:21840"+target, http.NoBody)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func s3Error(code, message string) string {
	return fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>4442587FB7D0A2F9</RequestId><HostId>x</HostId></Error>", code, message)
}

func stsError(code, message string) string {
	return fmt.Sprintf(`<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ErrorResponse>`, code, message)
}
