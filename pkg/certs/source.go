package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Source gives the serving certificate. Start runs until ctx ends.
type Source interface {
	GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	Start(ctx context.Context) error
}

// ErrNoCertificate says that there is no certificate to serve yet.
var ErrNoCertificate = errors.New("no serving certificate yet")

// Files serves the certificate of two files and follows their changes. They may
// come later than the process: a Secret that an issuer has yet to fill.
type Files struct {
	cert, key string
	log       logr.Logger
	watcher   atomic.Pointer[certwatcher.CertWatcher]
}

// retry is how long Files waits for files that are not there; what a person
// notices is the time to the first ready replica, so it is short.
const retry = 500 * time.Millisecond

// NewFiles reads dir/cert and dir/key, both PEM.
func NewFiles(dir, cert, key string, log logr.Logger) *Files {
	return &Files{cert: filepath.Join(dir, cert), key: filepath.Join(dir, key), log: log}
}

// GetCertificate is for tls.Config.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if watcher := f.watcher.Load(); watcher != nil {
		return watcher.GetCertificate(hello)
	}
	return nil, ErrNoCertificate
}

// Start waits for the files, then watches them.
func (f *Files) Start(ctx context.Context) error {
	ticker := time.NewTicker(retry)
	defer ticker.Stop()
	reported := ""
	for {
		watcher, err := certwatcher.New(f.cert, f.key)
		if err == nil {
			f.watcher.Store(watcher)
			return watcher.Start(ctx)
		}
		if err.Error() != reported {
			reported = err.Error()
			f.log.Info("Waiting for the serving certificate", "certificate", f.cert, "key", f.key, "cause", reported)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// NeedLeaderElection is false: every replica serves.
func (*Files) NeedLeaderElection() bool { return false }

// Expiry is when the certificate of source ends; zero while there is none.
func Expiry(source Source) time.Time {
	leaf, err := leaf(source)
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// Ready is a readiness check: a certificate is there and valid now.
func Ready(source Source, now func() time.Time) func(*http.Request) error {
	return func(*http.Request) error {
		leaf, err := leaf(source)
		if err != nil {
			return err
		}
		if at := now(); at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
			return fmt.Errorf("the serving certificate is valid from %s to %s only", leaf.NotBefore, leaf.NotAfter)
		}
		return nil
	}
}

func leaf(source Source) (*x509.Certificate, error) {
	certificate, err := source.GetCertificate(&tls.ClientHelloInfo{})
	switch {
	case err != nil:
		return nil, err
	case certificate == nil || len(certificate.Certificate) == 0:
		return nil, ErrNoCertificate
	case certificate.Leaf != nil:
		return certificate.Leaf, nil
	}
	return x509.ParseCertificate(certificate.Certificate[0])
}
