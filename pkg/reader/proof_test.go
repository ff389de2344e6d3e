package reader

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

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

// TestARedReaderDoesNotHammerAWS: neither STS while the role does not trust, nor S3 when
// somebody asks for what is not granted, whatever the number of requests.
func TestARedReaderDoesNotHammerAWS(t *testing.T) {
	for name, test := range map[string]struct {
		operation string
		body      string
		counted   string
	}{
		"the role does not trust": {"AssumeRoleWithWebIdentity", stsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"), "AssumeRoleWithWebIdentity"},
		"a key is not granted":    {"GetObject", s3Error("AccessDenied", "Access Denied"), "ListObjectsV2"},
	} {
		t.Run(name, func(t *testing.T) {
			var counts sync.Map
			s, _ := newTestServer(t, injected(t, goodClaims()), transport(func(service, operation string, r *http.Request) (*http.Response, error) {
				n, _ := counts.LoadOrStore(operation, new(atomic.Int64))
				n.(*atomic.Int64).Add(1)
				return failing(test.operation, 403, test.body)(service, operation, r)
			}))
			ctx, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer stop()
			go s.prover.run(ctx)
			requests := 0
			for ; ctx.Err() == nil; requests++ {
				get(t, s, "/s3/2026/x")
			}
			n, _ := counts.Load(test.counted)
			if asked := n.(*atomic.Int64).Load(); asked > 8 || requests < 100 {
				t.Errorf("%d requests made %d calls of %s", requests, asked, test.counted)
			}
		})
	}
}

// TestAStaleProofIsNoProof: where no new proof comes, the old one is not believed for ever.
func TestAStaleProofIsNoProof(t *testing.T) {
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(green))
	s.prover.last.Store(s.prover.chain.walk(t.Context()))
	stale := s.prover.report(time.Now().Add(time.Hour))
	if !s.prover.report(time.Now()).Ready || stale.Ready || !strings.Contains(stale.Line(), "too old to be believed") {
		t.Errorf("a proof is believed for two intervals, and no longer: %s", stale.Line())
	}
	s.draining.Store(true)
	if w := get(t, s, "/readyz"); w.Code != 503 || w.Body.String() != "draining\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
