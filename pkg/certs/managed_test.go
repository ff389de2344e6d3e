package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type ca struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// newCA makes a CA that is valid from start for a lifetime.
func newCA(tb testing.TB, start time.Time, lifetime time.Duration) ca {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "CA"}, NotBefore: start, NotAfter: start.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return ca{certificate, key}
}

// leaf makes a serving certificate that starts at start.
func (c ca) leaf(tb testing.TB, start time.Time) *x509.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(time.Hour), DNSNames: []string{"webhook.svc"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.Certificate, &c.key.PublicKey, c.key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return leaf
}

func bundleOf(all ...ca) []byte {
	var out []*x509.Certificate
	for _, c := range all {
		out = append(out, c.Certificate)
	}
	return encode(out)
}

func TestABundle(t *testing.T) {
	const year, keep = 365 * 24 * time.Hour, 8 * 24 * time.Hour
	old, current, future := newCA(t, epoch, year), newCA(t, epoch.Add(year/2), year), newCA(t, epoch.Add(year), year)
	replaced := current.NotBefore.Add(keep)
	for name, test := range map[string]struct {
		bundle []byte
		at     time.Time
		keep   time.Duration
		want   []byte
		next   time.Time
	}{
		"an empty one gets the CA":    {nil, current.NotBefore, keep, bundleOf(current), time.Time{}},
		"what is no certificate goes": {[]byte("damaged\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), current.NotBefore, keep, bundleOf(current), time.Time{}},
		"the CA stays":                {bundleOf(current), current.NotBefore, keep, bundleOf(current), current.NotAfter},
		"twice is once":               {bundleOf(current, current), current.NotBefore, keep, bundleOf(current), current.NotAfter},
		"the former one stays for as long as leafs of it live": {bundleOf(old), replaced.Add(-time.Second), keep, bundleOf(old, current), replaced},
		"and goes then": {bundleOf(old, current), replaced, keep, bundleOf(current), current.NotAfter},
		"without a time to keep it stays until it ends":         {bundleOf(old, current), old.NotAfter.Add(-time.Second), 0, bundleOf(old, current), old.NotAfter},
		"and goes then, too":                                    {bundleOf(old, current), old.NotAfter, 0, bundleOf(current), current.NotAfter},
		"a younger one is of a replica that knows more":         {bundleOf(current, future), replaced.Add(time.Hour), keep, bundleOf(current, future), current.NotAfter},
		"our own stays even when it has ended, to be seen":      {bundleOf(current), current.NotAfter.Add(time.Hour), keep, bundleOf(current), time.Time{}},
		"one that had ended while nobody looked goes, ours not": {bundleOf(old), old.NotAfter.Add(time.Hour), keep, bundleOf(current), time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, next := merge(test.bundle, []*x509.Certificate{current.Certificate}, test.at, test.keep)
			if !bytes.Equal(got, test.want) || !next.Equal(test.next) {
				t.Fatalf("got %d certificates, next %s; want %d, %s", len(parse(got)), next, len(parse(test.want)), test.next)
			}
			again, _ := merge(got, []*x509.Certificate{current.Certificate}, test.at, test.keep)
			if !bytes.Equal(again, got) {
				t.Fatal("twice is not once")
			}
		})
	}
}

// TestBundlesOfAllReplicas is the law that holds the overlap: whatever replicas with
// Secrets of different age write, in any order, the CA of each leaf that one of them may
// still serve is in the bundle.
func TestBundlesOfAllReplicas(t *testing.T) {
	const life, leafLife, keep = 30 * 24 * time.Hour, 24 * time.Hour, 30 * time.Hour
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for range 200 {
		now, bundle := epoch, []byte(nil)
		var all []ca
		var replaced []time.Time // when each CA was made
		for range 6 {
			now = now.Add(time.Duration(random.Int64N(int64(life / 2))))
			all, replaced = append(all, newCA(t, now, life)), append(replaced, now)
			for range 4 {
				now = now.Add(time.Duration(random.Int64N(int64(keep / 2))))
				view := len(all) - 1
				if view > 0 && random.IntN(2) == 0 && now.Before(replaced[view].Add(leafLife)) {
					view-- // a replica whose watch is behind
				}
				bundle, _ = merge(bundle, []*x509.Certificate{all[view].Certificate}, now, keep)
				bundle, _ = merge(bundle, []*x509.Certificate{all[len(all)-1].Certificate}, now, keep)
				for i, c := range all {
					serves := i == len(all)-1 || now.Before(replaced[i+1].Add(leafLife)) && now.Before(c.NotAfter)
					trusted := slices.ContainsFunc(parse(bundle), c.Equal)
					if serves && !trusted && i >= len(all)-2 {
						t.Fatalf("CA %d of %d is missing at %s", i, len(all), now)
					}
				}
			}
		}
	}
	bundle := []byte(nil)
	for i := range 3 * maxBundle {
		one := newCA(t, epoch.Add(time.Duration(i)*time.Second), life)
		if bundle, _ = merge(bundle, []*x509.Certificate{one.Certificate}, epoch.Add(time.Hour), keep); !contains(parse(bundle), one.Certificate) {
			t.Fatal("the newest is missing")
		}
	}
	if n := len(parse(bundle)); n != maxBundle {
		t.Fatalf("%d certificates, want %d at most", n, maxBundle)
	}
}

// signer is an authority that signs by a CA.
type signer struct{ leaf *x509.Certificate }

func (signer) Run(context.Context) error                           { return nil }
func (signer) WatchRotation(chan<- struct{})                       {}
func (signer) StopWatchingRotation(chan<- struct{})                {}
func (s signer) Sign(*x509.Certificate) (*x509.Certificate, error) { return s.leaf, nil }
func bundlesOf(b ...[]byte) func(context.Context) (map[string][]byte, error) {
	return func(context.Context) (map[string][]byte, error) {
		all := map[string][]byte{}
		for i, one := range b {
			all[string(rune('a'+i))] = one
		}
		return all, nil
	}
}

func TestALeafIsSignedWhenItsCAHasSettled(t *testing.T) {
	now := time.Now()
	old, fresh := newCA(t, now.Add(-time.Hour), 48*time.Hour), newCA(t, now.Add(-time.Minute), 48*time.Hour)
	const settle = 100 * time.Millisecond
	s := &settled{Authority: signer{fresh.leaf(t, now)}, now: time.Now, settle: settle, log: logr.Discard()}
	refused := func(why string) {
		t.Helper()
		if _, err := s.Sign(nil); !errors.Is(err, authority.ErrCertificateNotAvailable) || !strings.Contains(err.Error(), why) {
			t.Fatalf("got %v, want a refusal with %q", err, why)
		}
	}
	s.bundles = bundlesOf(bundleOf(old, fresh), bundleOf(old))
	refused("the caBundle of b does not trust it")
	s.bundles = bundlesOf(bundleOf(old, fresh), nil)
	refused("the caBundle of b does not trust it")
	s.bundles = bundlesOf(bundleOf(old, fresh), bundleOf(old, fresh))
	refused("has to stand there")
	time.Sleep(settle)
	s.bundles = bundlesOf(bundleOf(old, fresh), bundleOf(old)) // somebody took it away
	refused("does not trust it")
	s.bundles = bundlesOf(bundleOf(old, fresh), bundleOf(old, fresh))
	refused("has to stand there") // from the beginning
	time.Sleep(settle)
	if _, err := s.Sign(nil); err != nil {
		t.Fatal(err)
	}
	first := &settled{Authority: signer{fresh.leaf(t, now)}, now: time.Now, settle: time.Hour, log: logr.Discard(), bundles: bundlesOf(bundleOf(fresh), bundleOf(fresh))}
	if _, err := first.Sign(nil); err != nil {
		t.Fatalf("waits although nothing else is trusted: %v", err)
	}
	first.bundles = func(context.Context) (map[string][]byte, error) { return nil, errors.New("partitioned") }
	if _, err := first.Sign(nil); err == nil {
		t.Fatal("signs without knowing what is trusted")
	}
	future := newCA(t, now.Add(24*time.Hour), 48*time.Hour)
	late := &settled{Authority: signer{future.leaf(t, now)}, now: time.Now, log: logr.Discard(), bundles: bundlesOf(bundleOf(future))}
	if _, err := late.Sign(nil); err == nil {
		t.Fatal("signs by a CA of the future")
	}
}

func TestAClockThatJumpsWritesNothing(t *testing.T) {
	wall := time.Now()
	clock := NewClock()
	clock.wall = func() time.Time { return wall }
	sent := 0
	transport := clock.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
		sent++
		date := time.Now().UTC().Format(http.TimeFormat)
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Date": {date}}, Body: io.NopCloser(strings.NewReader(""))}, nil
	}))
	do := func(method string) error {
		request, _ := http.NewRequestWithContext(t.Context(), method, "https://api.example.com", nil)
		response, err := transport.RoundTrip(request)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	if err := do(http.MethodPut); err == nil || sent != 0 {
		t.Fatal("written before the API server's clock is known")
	}
	if err := errors.Join(do(http.MethodGet), do(http.MethodPut)); err != nil || sent != 2 {
		t.Fatal(err)
	}
	for _, jump := range []time.Duration{400 * 24 * time.Hour, -400 * 24 * time.Hour, 11*time.Second + time.Second} {
		wall = time.Now().Add(jump)
		if err := do(http.MethodPatch); err == nil || !strings.Contains(err.Error(), "off the API server's") {
			t.Fatalf("written with a clock that is %s off: %v", jump, err)
		}
		if off := time.Since(clock.Now()).Abs(); off > 2*time.Second {
			t.Fatalf("the API server's time is %s off after a jump", off)
		}
	}
	wall = time.Now()
	if err := do(http.MethodPatch); err != nil {
		t.Fatal(err)
	}
}

func TestANewCertificateWaitsWhileTheFormerOneIsGood(t *testing.T) {
	now := time.Now()
	m := &Managed{options: Options{Settle: 10 * time.Second}, clock: NewClock()}
	one := func(start, end time.Duration) *tls.Certificate {
		return &tls.Certificate{Leaf: &x509.Certificate{NotBefore: now.Add(start), NotAfter: now.Add(end)}}
	}
	for name, test := range map[string]struct {
		former, fresh *tls.Certificate
		want          bool // the fresh one
	}{
		"the first is served at once":           {nil, one(0, time.Hour), true},
		"a young one waits":                     {one(-time.Hour, time.Hour), one(0, time.Hour), false},
		"an old enough one is served":           {one(-time.Hour, time.Hour), one(-11*time.Second, time.Hour), true},
		"none waits for one that is at its end": {one(-time.Hour, 5*time.Second), one(0, time.Hour), true},
	} {
		t.Run(name, func(t *testing.T) {
			m.serving.Store(test.former)
			if got := m.choose(test.fresh); (got == test.fresh) != test.want {
				t.Fatal("the wrong one is served")
			}
		})
	}
}
