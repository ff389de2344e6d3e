package cluster

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
)

// documents of an issuer: the discovery document of OpenID Connect, and the keys that
// Kubernetes has it point at. Nothing else of the API server is shown.
var documents = []string{"/.well-known/openid-configuration", "/openid/v1/jwks"}

// issuer serves the documents of a cluster whose API server an AWS account can't reach, as
// the owner of such a cluster publishes them.
type issuer struct {
	url string
	ca  []byte // of its certificate, PEM

	listener net.Listener
	server   *http.Server
}

// newIssuer makes the certificate for an issuer at a listener's address, and serves
// nothing yet: a client has to know the CA before there is a cluster.
func newIssuer(listener net.Listener) (*issuer, error) {
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	i := &issuer{url: "https://" + listener.Addr().String(), listener: listener}
	if port == "443" { // the name of an issuer is compared as text
		i.url = "https://" + host
	}
	certificates, key, err := cert.GenerateSelfSignedCertKey(host, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("a certificate for the issuer: %w", err)
	}
	// The CA stands behind its certificate.
	if _, i.ca = pem.Decode(certificates); len(i.ca) == 0 {
		return nil, errors.New("the issuer's certificate came without its CA")
	}
	pair, err := tls.X509KeyPair(certificates, key)
	if err != nil {
		return nil, fmt.Errorf("a certificate for the issuer: %w", err)
	}
	i.server = &http.Server{
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
	}
	return i, nil
}

// publish copies the cluster's documents, byte by byte, and serves them until close.
func (i *issuer) publish(ctx context.Context, config *rest.Config) error {
	mux := http.NewServeMux()
	for _, path := range documents {
		document, contentType, err := fetch(ctx, config, path)
		if err != nil {
			return fmt.Errorf("the cluster's %s: %w", path, err)
		}
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = w.Write(document)
		})
	}
	i.server.Handler = mux
	go func() { _ = i.server.ServeTLS(i.listener, "", "") }()
	return nil
}

// close ends the serving, if it began, and frees the address.
func (i *issuer) close() error {
	_ = i.listener.Close() // already closed by the server, where it serves
	return i.server.Close()
}

// fetch reads a path of the API server.
func fetch(ctx context.Context, config *rest.Config, path string) (body []byte, contentType string, err error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, "", err
	}
	defer client.CloseIdleConnections()
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.JoinPath(path).String(), http.NoBody)
	if err != nil {
		return nil, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		return nil, "", err
	}
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("the API server answered %s: %s", response.Status, body)
	}
	return body, response.Header.Get("Content-Type"), nil
}
