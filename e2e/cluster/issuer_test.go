package cluster

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// TestIssuer: what the issuer's server says is what the API server says, byte by byte, over
// TLS that its CA vouches for.
func TestIssuer(t *testing.T) {
	said := map[string]string{
		// Spaces and the order of fields are the API server's own business.
		"/.well-known/openid-configuration": `{"issuer":"https://203.0.113.1",  "jwks_uri":"https://203.0.113.1/openid/v1/jwks"}` + "\n",
		"/openid/v1/jwks":                   `{"keys":[{"use":"sig","kty":"RSA","kid":"a"}]}`,
		"/api/v1/secrets":                   `{"items":["secret"]}`,
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer administrator" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = io.WriteString(w, said[r.URL.Path])
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL, BearerToken: "administrator", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}

	i := listenIssuer(t)
	if err := i.publish(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for _, path := range documents {
		if got, want := get(t, i, path), (answer{http.StatusOK, "application/jwk-set+json", said[path]}); got != want {
			t.Errorf("%s: %+v\nwant %+v", path, got, want)
		}
	}
	if got := get(t, i, "/api/v1/secrets"); got.status != http.StatusNotFound {
		t.Errorf("another path of the API server: %+v", got)
	}
	if err := i.close(); err != nil {
		t.Errorf("closing: %v", err)
	}
	if _, err := net.Dial("tcp", i.listener.Addr().String()); err == nil {
		t.Error("it still serves after its end")
	}
}

func TestIssuerOfAClusterThatRefuses(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	i := listenIssuer(t)
	err := i.publish(t.Context(), &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err == nil || !strings.Contains(err.Error(), "/.well-known/openid-configuration: the API server answered 404") {
		t.Errorf("publishing what is not there: %v", err)
	}
	if err := i.close(); err != nil {
		t.Errorf("closing what never served: %v", err)
	}
}

func listenIssuer(t *testing.T) *issuer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i, err := newIssuer(listener)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.close() })
	return i
}

type answer struct {
	status            int
	contentType, body string
}

// get trusts the issuer's CA and nothing else.
func get(t *testing.T, i *issuer, path string) answer {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(i.ca) || bytes.Count(i.ca, []byte("BEGIN CERTIFICATE")) != 1 {
		t.Fatalf("the CA is %s", i.ca)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(i.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header.Get("Content-Type"), string(body)}
}
