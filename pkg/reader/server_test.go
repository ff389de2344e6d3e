package reader

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

func problemOf(t *testing.T, w *httptest.ResponseRecorder) problem {
	t.Helper()
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q: %s", got, w.Body)
	}
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != w.Code || p.Type != problemType+string(p.Cause) || p.Title == "" || p.Fix == "" {
		t.Fatalf("no whole problem: %+v", p)
	}
	return p
}

func TestAnObjectIsPassedOnAsS3SaysIt(t *testing.T) {
	var asked http.Header
	var path string
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
		if service == "S3" {
			asked, path = r.Header.Clone(), r.URL.EscapedPath()
			return answer(206, "ten", "Content-Type", "text/html", "ETag", `"tag"`, "Content-Range", "bytes 0-2/10", "Content-Encoding", "gzip", "Content-Length", "3",
				"Last-Modified", "Sun, 01 Nov 2026 00:00:00 GMT", "Content-Disposition", "inline", "Set-Cookie", "a=b", "X-Amz-Meta-Evil", "x", "Access-Control-Allow-Origin", "*"), nil
		}
		return green(service, operation, r)
	}))
	w := get(t, s, "/s3/2026/a%20b/c%2Fd//%22%E2%82%AC.html", "Range", "bytes=0-2", "If-None-Match", `"x"`, "If-Modified-Since", "Sun, 01 Nov 2026 00:00:00 GMT")
	if w.Code != 206 || w.Body.String() != "ten" {
		t.Fatalf("%d %q", w.Code, w.Body)
	}
	if path != "/2026/a%20b/c/d//%22%E2%82%AC.html" {
		t.Errorf("S3 was asked for %s", path)
	}
	for name, want := range map[string]string{"Range": "bytes=0-2", "If-None-Match": `"x"`, "If-Modified-Since": "Sun, 01 Nov 2026 00:00:00 GMT"} {
		if asked.Get(name) != want {
			t.Errorf("%s: S3 got %q", name, asked.Get(name))
		}
	}
	for name, want := range map[string]string{
		"ETag": `"tag"`, "Content-Range": "bytes 0-2/10", "Content-Encoding": "gzip", "Content-Length": "3", "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT",
		"Content-Type": "text/html", "Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff",
		"Cross-Origin-Resource-Policy": "same-origin", "Content-Disposition": "attachment; filename*=utf-8''%22%E2%82%AC.html",
		"Set-Cookie": "", "X-Amz-Meta-Evil": "", "Access-Control-Allow-Origin": "",
	} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := get(t, s, "/s3/2026/x?disposition=inline").Header(); got.Get("Content-Disposition") != "" || got.Get("Content-Security-Policy") == "" {
		t.Error("inline was asked for, and its sandbox stays")
	}
}

func TestStatusCodesAreTranslated(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		code    string
		want    int
		cause   diagnosis.Cause
		headers []string
	}{
		"missing":           {404, "NoSuchKey", 404, diagnosis.KeyMissing, nil},
		"denied":            {403, "AccessDenied", 403, diagnosis.MissingOrNotGranted, nil},
		"range":             {416, "InvalidRange", 416, diagnosis.RangeNotSatisfiable, nil},
		"condition":         {412, "PreconditionFailed", 412, diagnosis.PreconditionFailed, nil},
		"slow down":         {503, "SlowDown", 503, diagnosis.Throttled, []string{"Retry-After", "2"}},
		"no bucket":         {404, "NoSuchBucket", 502, diagnosis.BucketMissing, nil},
		"in another region": {301, "PermanentRedirect", 502, diagnosis.WrongRegion, nil},
		"failure of S3":     {500, "InternalError", 503, diagnosis.ServiceFailure, []string{"Retry-After", "2"}},
		"archived":          {403, "InvalidObjectState", 403, diagnosis.Archived, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestServer(t, injected(t, goodClaims()), failing("GetObject", test.status, s3Error(test.code, "said")))
			w := get(t, s, "/s3/2026/x")
			if p := problemOf(t, w); w.Code != test.want || p.Cause != test.cause || p.Answer == nil || p.Answer.Code != test.code {
				t.Errorf("%d %+v", w.Code, p)
			}
			for i := 0; i < len(test.headers); i += 2 {
				if w.Header().Get(test.headers[i]) != test.headers[i+1] {
					t.Errorf("%s: %q", test.headers[i], w.Header().Get(test.headers[i]))
				}
			}
			// HEAD's answers have no body: the status, and no cause that it does not prove.
			s, _ = newTestServer(t, injected(t, goodClaims()), failing("HeadObject", test.status, ""))
			want := test.want
			if test.code == "NoSuchBucket" {
				want = http.StatusNotFound // 404 is all that S3 says
			}
			if h := ask(t, s, http.MethodHead, "/s3/2026/x"); h.Body.Len() != 0 || h.Code != want {
				t.Errorf("HEAD: %d, want %d: %q", h.Code, want, h.Body)
			}
		})
	}
	t.Run("not modified", func(t *testing.T) {
		s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
			if service == "S3" {
				return answer(304, "", "ETag", `"tag"`), nil
			}
			return green(service, operation, r)
		}))
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if w := ask(t, s, method, "/s3/2026/x", "If-None-Match", `"tag"`); w.Code != 304 || w.Body.Len() != 0 || w.Header().Get("ETag") != `"tag"` {
				t.Errorf("%s: %d %q", method, w.Code, w.Body)
			}
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		s, _ := newTestServer(t, injected(t, goodClaims()), failing("AssumeRoleWithWebIdentity", 403, stsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")))
		w := get(t, s, "/s3/2026/x")
		if p := problemOf(t, w); w.Code != 403 || p.Cause != diagnosis.RoleNotTrusting || p.Answer.Service != "STS" {
			t.Errorf("%d %+v", w.Code, p)
		}
	})
}

func TestWhatIsNotServed(t *testing.T) {
	c := injected(t, goodClaims())
	c.AllowedHosts = []string{"api.default.svc"}
	s, _ := newTestServer(t, c, transport(func(service, operation string, r *http.Request) (*http.Response, error) {
		if service == "S3" && r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, "/2026/") && r.URL.Query().Get("list-type") == "" {
			t.Errorf("S3 was asked for %s", r.URL)
		}
		return green(service, operation, r)
	}))
	for name, test := range map[string]struct {
		method, target string
		headers        []string
		status         int
		cause          diagnosis.Cause
	}{
		"outside the prefix":        {"GET", "/s3/2025/x", nil, 403, diagnosis.OutsidePrefix},
		"the prefix less its slash": {"GET", "/s3/2026", nil, 403, diagnosis.OutsidePrefix},
		"out of the prefix by dots": {"GET", "/s3/2026/../2025/x", nil, 400, diagnosis.InvalidKey},
		"by escaped dots":           {"GET", "/s3/2026/%2e%2e/2025/x", nil, 400, diagnosis.InvalidKey},
		"by escaped slashes":        {"GET", "/s3/2026%2f..%2f2025%2fx", nil, 400, diagnosis.InvalidKey},
		"by backslashes":            {"GET", "/s3/2026/..%5C..%5Cx", nil, 400, diagnosis.InvalidKey},
		"a control character":       {"GET", "/s3/2026/%00", nil, 400, diagnosis.InvalidKey},
		"a line break":              {"GET", "/s3/2026/a%0d%0aSet-Cookie:x", nil, 400, diagnosis.InvalidKey},
		"no UTF-8":                  {"GET", "/s3/2026/%ff", nil, 400, diagnosis.InvalidKey},
		"1,025 bytes":               {"GET", "/s3/2026/" + strings.Repeat("x", 1020), nil, 400, diagnosis.InvalidKey},
		"a listing outside":         {"GET", "/s3/?prefix=2025/", nil, 403, diagnosis.OutsidePrefix},
		"a listing out by dots":     {"GET", "/s3/?prefix=2026/../", nil, 400, diagnosis.InvalidKey},
		"another method":            {"POST", "/s3/2026/x", nil, 405, diagnosis.MethodNotAllowed},
		"DELETE":                    {"DELETE", "/s3/2026/x", nil, 405, diagnosis.MethodNotAllowed},
		"a rebound name":            {"GET", "/s3/2026/x", []string{"Host", "evil.example.com:21840"}, 421, diagnosis.HostNotAllowed},
		"a rebound name, the page":  {"GET", "/", []string{"Host", "evil.example.com"}, 421, diagnosis.HostNotAllowed},
		"localhost's look-alike":    {"GET", "/status", []string{"Host", "localhost.evil.example.com"}, 421, diagnosis.HostNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(t, s, test.method, test.target, test.headers...)
			if p := problemOf(t, w); w.Code != test.status || p.Cause != test.cause {
				t.Errorf("%d %+v", w.Code, p)
			}
		})
	}
	for _, host := range []string{"localhost", "LOCALHOST.:1", "127.0.0.1:21840", "[::1]:21840", "10.1.2.3:8080", "api.default.svc", "API.default.svc:80"} {
		if w := get(t, s, "/healthz", "Host", host); w.Code != 200 {
			t.Errorf("%s: %d", host, w.Code)
		}
	}
	if w := get(t, s, "/s3/2026/"+strings.Repeat("x", 1019)); w.Code != 200 {
		t.Errorf("1,024 bytes: %d %s", w.Code, w.Body)
	}
}

func TestListing(t *testing.T) {
	var query string
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
		if operation == "ListObjectsV2" {
			query = r.URL.RawQuery
			return answer(200, `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken><Contents><Key>2026/a%2Bb%01+c</Key><Size>5</Size><LastModified>2026-11-01T00:00:00Z</LastModified><ETag>"e"</ETag></Contents><CommonPrefixes><Prefix>2026/%C3%BC/</Prefix></CommonPrefixes></ListBucketResult>`), nil
		}
		return green(service, operation, r)
	}))
	w := get(t, s, "/s3/?delimiter=/&max-keys=7&continuation-token=t+1")
	var got Listing
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	if len(got.Objects) != 1 || got.Objects[0].Key != "2026/a+b\x01 c" || got.Objects[0].Size != 5 || got.Prefixes[0] != "2026/ü/" || got.NextContinuationToken != "next" || got.Prefix != "2026/" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"prefix=2026%2F", "delimiter=%2F", "max-keys=7", "continuation-token=t%201", "encoding-type=url"} {
		if !strings.Contains(query, want) {
			t.Errorf("S3 was asked with %s, without %s", query, want)
		}
	}
	if w.Header().Get("Content-Security-Policy") == "" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", w.Header())
	}
}

// TestIfRange: a download is gone on with only while the object is the same.
func TestIfRange(t *testing.T) {
	for name, test := range map[string]struct {
		ifRange string
		current string // ETag of the object
		want    int
	}{
		"the same":   {`"old"`, `"old"`, 206},
		"another":    {`"old"`, `"new"`, 200},
		"a weak tag": {`W/"old"`, `"old"`, 200},
		"a date":     {"Sun, 01 Nov 2026 00:00:00 GMT", `"old"`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
				match := r.Header.Get("If-Match")
				switch {
				case service != "S3":
					return green(service, operation, r)
				case match != "" && match != test.current:
					return answer(412, s3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")), nil
				case r.Header.Get("Range") != "":
					return answer(206, "tent", "Content-Range", "bytes 3-6/7", "Content-Length", "4", "ETag", test.current), nil
				}
				return green(service, operation, r)
			}))
			if w := get(t, s, "/s3/2026/x", "Range", "bytes=3-", "If-Range", test.ifRange); w.Code != test.want {
				t.Errorf("%d %q", w.Code, w.Body)
			}
		})
	}
}
