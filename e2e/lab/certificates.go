package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Certificate is the one that a Secret holds now, nil while it holds none with its key.
func (l *Lab) Certificate(ctx context.Context, key client.ObjectKey) *x509.Certificate {
	var secret corev1.Secret
	if err := l.Client.Get(ctx, key, &secret); err != nil {
		return nil
	}
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		return nil
	}
	return pair.Leaf
}

// CABundles are those of every entry of both configurations.
func (l *Lab) CABundles(ctx context.Context) (bundles [][]byte, err error) {
	var mutating registrationv1.MutatingWebhookConfiguration
	var validating registrationv1.ValidatingWebhookConfiguration
	if err = l.Client.Get(ctx, client.ObjectKey{Name: Name}, &mutating); err == nil {
		err = l.Client.Get(ctx, client.ObjectKey{Name: Name}, &validating)
	}
	for i := range mutating.Webhooks {
		bundles = append(bundles, mutating.Webhooks[i].ClientConfig.CABundle)
	}
	for i := range validating.Webhooks {
		bundles = append(bundles, validating.Webhooks[i].ClientConfig.CABundle)
	}
	return bundles, err
}

// Greet makes a new connection as an API server does, trusting one bundle, and returns
// the certificate that is served.
func (r *Replica) Greet(ctx context.Context, bundle []byte) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	config := &tls.Config{RootCAs: roots, ServerName: Name + "." + Namespace + ".svc", MinVersion: tls.VersionTLS13}
	connection, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", r.Address())
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	secure, _ := connection.(*tls.Conn)
	return secure.ConnectionState().PeerCertificates[0], nil
}
