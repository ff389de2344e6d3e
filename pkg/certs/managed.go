package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	cmlogs "github.com/cert-manager/cert-manager/pkg/logs"
	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Options of a managed certificate.
type Options struct {
	Namespace     string // of the Secret and the Service
	Secret        string // keeps the CA
	Service       string // the certificate is for <Service>.<Namespace>.svc
	Configuration string // name of the webhook configurations
	CADuration    time.Duration
	LeafDuration  time.Duration
	// Settle is how long a new CA must have stood in every caBundle, and how old a new
	// certificate must be, before it is served.
	Settle time.Duration
}

// Managed makes the serving certificate itself, by a CA that all replicas share in a
// Secret, and writes that CA into the webhook configurations. Every replica has a key of
// its own, which never leaves it.
type Managed struct {
	options        Options
	log            logr.Logger
	clock          *Clock
	clients        kubernetes.Interface
	configurations Configurations
	authority      *authority.DynamicAuthority
	source         *cmtls.DynamicSource
	serving        atomic.Pointer[tls.Certificate]
	changed        chan struct{}
}

const (
	lookAgain  = time.Minute // besides being told of changes
	retryAfter = time.Second
)

// NewManaged makes a source; config is the access to the API server.
func NewManaged(config *rest.Config, options Options, log logr.Logger) (*Managed, error) {
	m := &Managed{options: options, log: log, clock: NewClock(), changed: make(chan struct{}, 1)}
	config = rest.CopyConfig(config)
	config.Wrap(m.clock.Wrap)
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("setting up certificates: %w", err)
	}
	m.clients, m.configurations = clients, Configurations{Client: clients, Name: options.Configuration}
	m.authority = &authority.DynamicAuthority{
		SecretNamespace: options.Namespace, SecretName: options.Secret, RESTConfig: config,
		CommonName: options.Configuration + "-ca", CADuration: options.CADuration, LeafDuration: options.LeafDuration,
	}
	m.source = &cmtls.DynamicSource{
		DNSNames:      []string{options.Service + "." + options.Namespace + ".svc"},
		RetryInterval: retryAfter,
		Authority: &settled{
			Authority: m.authority, bundles: m.configurations.Bundles, now: m.clock.Now, settle: options.Settle, log: log,
		},
	}
	return m, nil
}

// Now is the time that counts for the certificate: the API server's.
func (m *Managed) Now() time.Time { return m.clock.Now() }

// Changed tells that the Secret or a webhook configuration is not what it was.
func (m *Managed) Changed() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// GetCertificate is for tls.Config. A new certificate waits until an API server whose
// clock is a little behind finds it valid too, while the former one still is.
func (m *Managed) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	fresh, err := m.source.GetCertificate(hello)
	if err != nil {
		return nil, ErrNoCertificate
	}
	return m.choose(fresh), nil
}

func (m *Managed) choose(fresh *tls.Certificate) *tls.Certificate {
	former, now := m.serving.Load(), m.clock.Now()
	if former != nil && former != fresh && now.Sub(fresh.Leaf.NotBefore) < m.options.Settle && now.Add(m.options.Settle).Before(former.Leaf.NotAfter) {
		return former
	}
	m.serving.Store(fresh)
	return fresh
}

// NeedLeaderElection is false: every replica serves.
func (*Managed) NeedLeaderElection() bool { return false }

// Start keeps Secret, bundles and certificate until ctx ends.
func (m *Managed) Start(ctx context.Context) error {
	rotated := make(chan struct{}, 1)
	m.authority.WatchRotation(rotated)
	defer m.authority.StopWatchingRotation(rotated)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.source.Start(cmlogs.NewContext(ctx, m.log)) })
	group.Go(func() error { m.keep(ctx, rotated); return nil })
	return group.Wait()
}

// keep looks after Secret and bundles whenever something changed, and now and then.
func (m *Managed) keep(ctx context.Context, rotated <-chan struct{}) {
	reported := ""
	for ctx.Err() == nil {
		next, err := m.look(ctx)
		wait := lookAgain
		if until := next.Sub(m.clock.Now()); !next.IsZero() && until < wait {
			wait = max(until, retryAfter)
		}
		text := ""
		if err != nil && ctx.Err() == nil {
			wait = retryAfter
			if text = err.Error(); text != reported && !errors.Is(err, errRaced) {
				m.log.Error(err, "Keeping the CA failed and is tried again")
			}
		}
		reported = text
		select {
		case <-ctx.Done():
		case <-rotated:
		case <-m.changed:
		case <-time.After(wait):
		}
	}
}

// look is one round; it returns when the next is due.
func (m *Managed) look(ctx context.Context) (next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	secrets := m.clients.CoreV1().Secrets(m.options.Namespace)
	secret, err := secrets.Get(ctx, m.options.Secret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		// Applied, not created: only so can RBAC hold the right to this one name. The
		// authority fills it.
		empty := applycorev1.Secret(m.options.Secret, m.options.Namespace).WithType(corev1.SecretTypeOpaque).
			WithLabels(map[string]string{"app.kubernetes.io/name": m.options.Configuration})
		m.log.Info("The Secret of the CA is gone and is made again", "secret", m.options.Secret)
		_, err = secrets.Apply(ctx, empty, metav1.ApplyOptions{FieldManager: fieldManager})
		return time.Time{}, err
	}
	if err != nil {
		return time.Time{}, err
	}
	ca := parse(secret.Data[corev1.TLSCertKey])
	if len(ca) == 0 {
		return time.Time{}, nil // the authority is about to fill it, and tells
	}
	if now := m.clock.Now(); ca[0].NotBefore.After(now.Add(tolerance)) {
		m.log.Info("The CA is of the future, of a clock that was wrong, and is made again", "notBefore", ca[0].NotBefore, "now", now)
		secret.Data = nil
		_, err := secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager})
		return time.Time{}, err
	}
	return m.sync(ctx, ca[:1])
}

// sync writes the bundles. The last leaf of a CA that was replaced ends a leaf's
// duration later; a tenth and twice the settling time are the margin.
func (m *Managed) sync(ctx context.Context, ca []*x509.Certificate) (time.Time, error) {
	keep := m.options.LeafDuration + m.options.LeafDuration/10 + 2*m.options.Settle
	written, next, err := m.configurations.Sync(ctx, ca, m.clock.Now(), keep)
	if written > 0 {
		m.log.Info("Wrote the CA into the webhook configurations", "entries", written, "notAfter", ca[0].NotAfter)
	}
	return next, err
}
