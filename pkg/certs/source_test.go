package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
)

// write makes a certificate with a serial number that is valid until end.
func write(t *testing.T, dir string, serial int64, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: end.Add(-2 * time.Hour), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.key": {Type: "PRIVATE KEY", Bytes: keyDER}, "tls.crt": {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesAreWaitedForAndFollowed(t *testing.T) {
	dir := t.TempDir()
	source := NewFiles(dir, "tls.crt", "tls.key", logr.Discard())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- source.Start(ctx) }()
	ready := Ready(source, time.Now)
	if ready(nil) == nil || !Expiry(source).IsZero() {
		t.Fatal("ready without a certificate")
	}
	serial := func() int64 {
		certificate, err := leaf(source)
		if err != nil {
			return 0
		}
		return certificate.SerialNumber.Int64()
	}
	for i, end := range []time.Time{time.Now().Add(time.Hour), time.Now().Add(2 * time.Hour)} {
		write(t, dir, int64(i+1), end)
		deadline := time.Now().Add(30 * time.Second) // the watcher looks every ten seconds where it is not told
		for serial() != int64(i+1) {
			if time.Now().After(deadline) {
				t.Fatalf("certificate %d is not served", i+1)
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := ready(nil); err != nil || Expiry(source).Unix() != end.Unix() {
			t.Fatalf("%v, %s", err, Expiry(source))
		}
	}
	late := Ready(source, func() time.Time { return time.Now().Add(24 * time.Hour) })
	if late(nil) == nil {
		t.Fatal("ready with a certificate that has ended")
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
