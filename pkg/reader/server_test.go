package reader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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
			if h := ask(t, s, http.MethodHead, "/s3/2026/x"); h.Body.Len() != 0 || h.Code < 400 {
				t.Errorf("HEAD: %d %q", h.Code, h.Body)
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
			return answer(200, `<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken><Contents><Key>2026/a%2Bb%01+c</Key><Size>5</Size><LastModified>2026-11-01T00:00:00Z</LastModified><ETag>"e"</ETag></Contents><CommonPrefixes><Prefix>2026/%C3%BC/</Prefix></CommonPrefixes></ListBucketResult>`), nil
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

// TestReadyIsAccessProven, by a server that really serves, and by the command that asks it.
func TestReadyIsAccessProven(t *testing.T) {
	for name, test := range map[string]struct {
		via   transport
		ready bool
		line  string
	}{
		"green": {green, true, "OK: bucket orders-data is readable as " + testRole},
		"red": {failing("ListObjectsV2", 404, s3Error("NoSuchBucket", "The specified bucket does not exist")), false,
			"BucketMissing: The bucket does not exist (S3 says: The specified bucket does not exist). Create orders-data in eu-west-1"},
	} {
		t.Run(name, func(t *testing.T) {
			s, log := newTestServer(t, injected(t, goodClaims()), test.via)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- s.Serve(ctx, listener) }()
			var line string
			var ready bool
			for range 100 {
				if line, ready, err = AskReady(t.Context(), listener.Addr().String()); err != nil {
					t.Fatal(err)
				}
				if line != "not checked yet" {
					break
				}
				time.Sleep(20 * time.Millisecond)
			}
			if ready != test.ready || !strings.HasPrefix(line, test.line) {
				t.Errorf("%t %q", ready, line)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for _, secret := range []string{"s3cret-of-the-session", "t0ken-of-the-session", "signature-of-the-token"} {
				if strings.Contains(log.String(), secret) {
					t.Errorf("the log holds %s", secret)
				}
			}
		})
	}
	if _, _, err := AskReady(t.Context(), "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "no reader answers on 127.0.0.1:1") {
		t.Error(err)
	}
}

// TestNothingSecretIsShown: neither the page's state nor the metrics hold a token or key.
func TestNothingSecretIsShown(t *testing.T) {
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(green))
	s.prover.note(s.prover.chain.walk(t.Context()))
	s.prover.last.Store(s.prover.chain.walk(t.Context()))
	for _, target := range []string{"/status", "/metrics", "/readyz", "/"} {
		w := get(t, s, target)
		for _, secret := range []string{"s3cret", "t0ken", "signature-of", "ASIAEXAMPLE", "eyJ"} {
			if w.Code != 200 || strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s: %d, %s", target, w.Code, secret)
			}
		}
	}
	if body := get(t, s, "/metrics").Body.String(); !strings.Contains(body, "bucket_access_reader_access_proven 1") || !strings.Contains(body, `check_ok{check="bucket"} 1`) {
		t.Error(body)
	}
}

// TestSTSIsAskedOnceForASession, however often access is proven and asked for.
func TestSTSIsAskedOnceForASession(t *testing.T) {
	counts := map[string]int{}
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
		counts[operation]++
		return green(service, operation, r)
	}))
	for range 10 {
		if report := s.prover.chain.walk(t.Context()); !report.Ready {
			t.Fatal(report.Line())
		}
		s.prover.last.Store(s.prover.chain.walk(t.Context()))
		get(t, s, "/readyz")
		get(t, s, "/status")
	}
	if counts["AssumeRoleWithWebIdentity"] != 1 || counts["GetCallerIdentity"] != 1 || counts["ListObjectsV2"] != 20 {
		t.Errorf("%v", counts)
	}
}

// TestAStaleProofIsNoProof: where no new proof comes, the old one is not believed for ever.
func TestAStaleProofIsNoProof(t *testing.T) {
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(green))
	s.prover.last.Store(s.prover.chain.walk(t.Context()))
	if !s.prover.report(time.Now()).Ready || s.prover.report(time.Now().Add(time.Hour)).Ready {
		t.Error("a proof is believed for two intervals, and no longer")
	}
	s.draining.Store(true)
	if w := get(t, s, "/readyz"); w.Code != 503 || w.Body.String() != "draining\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// brokenBody ends early, late, or with a wrong checksum.
type brokenBody struct {
	io.Reader
	err error
}

func (b *brokenBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) && b.err != nil {
		err = b.err
	}
	return n, err
}
func (*brokenBody) Close() error { return nil }

// TestABrokenTransferNeverLooksWhole: whatever goes wrong behind the header, the client
// gets a broken connection and not all the bytes.
func TestABrokenTransferNeverLooksWhole(t *testing.T) {
	content := strings.Repeat("x", 3*largeBuffer)
	for name, body := range map[string]io.Reader{
		"S3 ends early":           strings.NewReader(content[:2*largeBuffer]),
		"S3 breaks":               &brokenBody{strings.NewReader(content[:2*largeBuffer]), io.ErrUnexpectedEOF},
		"more than was announced": strings.NewReader(content + "y"),
		"wrong at the very end":   &brokenBody{strings.NewReader(content), errors.New("checksum did not match")},
	} {
		t.Run(name, func(t *testing.T) {
			s, log := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
				if service == "S3" {
					response := answer(200, "", "Content-Length", fmt.Sprint(len(content)))
					response.Body, response.ContentLength = io.NopCloser(body), int64(len(content))
					return response, nil
				}
				return green(service, operation, r)
			}))
			server := httptest.NewServer(s.Handler())
			defer server.Close()
			response, err := http.Get(server.URL + "/s3/2026/x")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err == nil || len(got) >= len(content) {
				t.Errorf("%d of %d bytes without an error: the transfer looks whole", len(got), len(content))
			}
			if !strings.Contains(log.String(), "A transfer broke") {
				t.Error("the log says nothing")
			}
		})
	}
}

// endless never ends and says when it is let go.
type endless struct {
	ctx    context.Context
	closed chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}
func (e *endless) Close() error { close(e.closed); return nil }

// TestAClientThatVanishesOrStallsHoldsNothing: the S3 call ends and the place is free.
func TestAClientThatVanishesOrStallsHoldsNothing(t *testing.T) {
	for name, vanish := range map[string]bool{"vanishes": true, "stalls": false} {
		t.Run(name, func(t *testing.T) {
			c := injected(t, goodClaims())
			c.IdleTimeout, c.MaxTransfers = time.Second, 1
			closed := make(chan struct{})
			s, _ := newTestServer(t, c, transport(func(service, operation string, r *http.Request) (*http.Response, error) {
				if service == "S3" {
					response := answer(200, "", "Content-Length", fmt.Sprint(int64(1)<<40))
					response.Body, response.ContentLength = &endless{r.Context(), closed}, 1<<40
					return response, nil
				}
				return green(service, operation, r)
			}))
			server := httptest.NewServer(s.Handler())
			defer server.Close()
			connection, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			fmt.Fprint(connection, "GET /s3/2026/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if _, err := io.ReadFull(connection, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if w := get(t, s, "/s3/2026/y"); w.Code != 503 || problemOf(t, w).Cause != diagnosis.Overloaded {
				t.Errorf("a second transfer: %d", w.Code)
			}
			if vanish {
				connection.Close()
			}
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatal("the S3 call is still open")
			}
			for range 100 {
				if len(s.transfers) == 0 {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Error("the place is still taken")
		})
	}
}
