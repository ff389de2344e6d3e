package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// serviceIP is the first address of envtest's --service-cluster-ip-range: the Service
// kubernetes, by which Pods reach the API server.
const serviceIP = "10.0.0.1"

// The names that envtest gives to files in the API server's --cert-dir.
const (
	servingCertificate = "apiserver.crt"
	servingKey         = "apiserver.key"
	signerKey          = "sa-signer.key"
	signerCertificate  = "sa-signer.crt"
)

// ServingPair is a certificate for the webhook's Service with its key and its CA, as the
// data of a Secret.
func ServingPair() (map[string][]byte, error) {
	ca, certificate, key, err := signedPair(Name+"."+Namespace+".svc", nil, nil)
	return map[string][]byte{"ca.crt": ca, "tls.crt": certificate, "tls.key": key}, err
}

// signedPair makes a CA, and a serving certificate of it that stands before it in its file.
func signedPair(host string, addresses []net.IP, names []string) (ca, certificates, key []byte, err error) {
	if certificates, key, err = cert.GenerateSelfSignedCertKey(host, addresses, names); err != nil {
		return nil, nil, nil, fmt.Errorf("a certificate for %s: %w", host, err)
	}
	if _, ca = pem.Decode(certificates); len(ca) == 0 {
		return nil, nil, nil, fmt.Errorf("the certificate for %s came without its CA", host)
	}
	return ca, certificates, key, nil
}

// writeServingPair puts the API server's certificate, which envtest would make without
// the Service's address, and the key that signs tokens into a directory. It returns the CA.
func writeServingPair(directory, host string) ([]byte, error) {
	ca, certificates, key, err := signedPair(host, []net.IP{net.ParseIP(serviceIP), net.IPv4(127, 0, 0, 1)}, // loopback: from outside, see Outside
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"})
	if err != nil {
		return nil, err
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := keyutil.MarshalPrivateKeyToPEM(signer)
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		servingCertificate: certificates, servingKey: key,
		// kube-apiserver takes the public half out of a private key.
		signerKey: private, signerCertificate: private,
	} {
		if err := os.WriteFile(filepath.Join(directory, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	return ca, nil
}
