package certs

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
)

// settled is an authority that signs nothing which an API server might not trust yet:
// Sign is refused until the leaf's CA has stood in every caBundle for a while, long
// enough for every API server's watch. Its caller keeps the former leaf and tries again.
type settled struct {
	cmtls.Authority
	bundles func(context.Context) (map[string][]byte, error) // read from the API server each time
	now     func() time.Time
	settle  time.Duration
	log     logr.Logger

	mutex    sync.Mutex
	since    map[[sha256.Size]byte]time.Time // when a CA was first seen in all bundles
	reported string
}

// readTimeout bounds the look at the caBundles.
const readTimeout = 10 * time.Second

// errUnsettled is answered by Sign for the time being.
var errUnsettled = errors.New("not yet")

// Sign implements cert-manager's Authority.
func (s *settled) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	leaf, err := s.Authority.Sign(template)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	bundles, err := s.bundles(ctx)
	if err == nil {
		err = s.check(leaf, bundles)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err == nil {
		s.reported = ""
		return leaf, nil
	}
	if text := err.Error(); text != s.reported {
		s.reported = text
		s.log.Info("No new serving certificate yet", "cause", text)
	}
	return nil, fmt.Errorf("%w: %w", authority.ErrCertificateNotAvailable, err)
}

// check refuses a leaf whose CA has not stood in all bundles for long enough. Where
// every bundle holds that CA alone there is nothing to wait for: no API server could
// trust anything else, so no replica serves anything better.
func (s *settled) check(leaf *x509.Certificate, bundles map[string][]byte) error {
	alone := true
	var root *x509.Certificate
	for name, bundle := range bundles {
		roots := x509.NewCertPool()
		all := parse(bundle)
		for _, c := range all {
			roots.AddCert(c)
		}
		// The leaf starts at this machine's time; what is asked is whether the CA is
		// trusted, at the API server's time.
		at := later(s.now(), leaf.NotBefore)
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		if err != nil {
			s.forget()
			return fmt.Errorf("%w: the caBundle of %s does not trust it: %w", errUnsettled, name, err)
		}
		root = chains[0][len(chains[0])-1]
		alone = alone && len(all) == 1
	}
	if alone {
		return nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	key := sha256.Sum256(root.Raw)
	first, seen := s.since[key]
	if !seen {
		s.since = map[[sha256.Size]byte]time.Time{key: time.Now()}
		first = s.since[key]
	}
	if time.Since(first) < s.settle {
		return fmt.Errorf("%w: its CA is new in the caBundles and has to stand there for %s", errUnsettled, s.settle)
	}
	return nil
}

func (s *settled) forget() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.since = nil
}
