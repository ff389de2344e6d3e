package reader

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzKey: whatever stands behind /s3/, S3 is asked for exactly that key or not at all;
// never outside of the prefix, also not by whoever resolves . and .. or //.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{
		"2026/config.json", "", "/", "2026/", "2026//x", "2026/../2025/x", "2026/%2e%2e/x", "2026%2F..%2Fx", "2026/%252e%252e/x", "2026/..%5cx", "2026/%00", "2026/%ff",
		"2026/ü €", "2026/%C3%BC+%20%2B", "2026/a?b=c", "2026/a#b", "2026/" + strings.Repeat("x", 1019), "2026/" + strings.Repeat("x", 1020), "2026/%", "2026/;", "2026/./x", "2026/...", "2026/.../x", "2026/..x",
	} {
		f.Add(seed)
	}
	withoutAWS(f)
	for name, value := range map[string]string{
		"AWS_ROLE_ARN": testRole, "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
	} {
		f.Setenv(name, value)
	}
	file := f.TempDir() + "/token"
	if err := os.WriteFile(file, []byte(testToken(goodClaims())), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	asked := ""
	c := &Config{Bucket: "orders-data", Prefix: "2026/", Environment: os.LookupEnv, ProbeInterval: time.Minute, ProbeTimeout: time.Minute, IdleTimeout: time.Minute, MaxTransfers: 8}
	s, err := newServer(f.Context(), c, slog.New(slog.DiscardHandler), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
		if operation == "GetObject" {
			asked = r.URL.EscapedPath()
		}
		return green(service, operation, r)
	}))
	if err != nil {
		f.Fatal(err)
	}
	handler := s.Handler()
	f.Fuzz(func(t *testing.T, escaped string) {
		u, err := url.Parse("http://localhost/s3/" + escaped)
		if err != nil {
			return
		}
		asked = ""
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u, Host: "localhost", Header: http.Header{}})
		behind := strings.TrimPrefix(u.EscapedPath(), "/s3/")
		want, err := url.PathUnescape(behind)
		if w.Code >= 500 {
			t.Fatalf("%q: %d %s", behind, w.Code, w.Body)
		}
		if asked == "" {
			if w.Code == http.StatusOK && behind != "" {
				t.Fatalf("%q is answered without S3", behind)
			}
			return
		}
		got, errGot := url.PathUnescape(strings.TrimPrefix(asked, "/"))
		if err != nil || errGot != nil || got != want {
			t.Fatalf("%q: S3 was asked for %q, not %q", behind, got, want)
		}
		if !strings.HasPrefix(path.Clean("/"+strings.ReplaceAll(got, `\`, "/"))+"/", "/2026/") || len(got) > 1024 || !utf8.ValidString(got) {
			t.Fatalf("%q leads out of the prefix, or is no key", got)
		}
	})
}
