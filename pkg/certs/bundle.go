package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// maxBundle bounds the certificates of a caBundle: a Secret that is deleted again and
// again must not make a webhook configuration outgrow etcd (32 are about 30 KiB an entry).
const maxBundle = 32

// merge gives the caBundle that an entry should have, and when to look again. It
// depends on nothing but what is in the bundle, so that all replicas agree without
// talking to each other.
//
// The current CAs are appended when they are missing. An older one is dropped once it
// has expired, or when it was replaced longer than keep ago: no leaf of it is served any
// more. A keep of zero drops expired ones only. One that is younger than ours is another
// replica's, which has seen a newer Secret: it stays. What is no certificate goes.
func merge(bundle []byte, current []*x509.Certificate, now time.Time, keep time.Duration) (merged []byte, next time.Time) {
	var newest time.Time
	for _, c := range current {
		newest = later(newest, c.NotBefore)
	}
	var kept []*x509.Certificate
	for _, c := range parse(bundle) {
		end := c.NotAfter
		if replaced := newest.Add(keep); keep > 0 && !contains(current, c) && c.NotBefore.Before(newest) && replaced.Before(end) {
			end = replaced
		}
		if !contains(kept, c) && (contains(current, c) || now.Before(end)) {
			kept = append(kept, c)
			if now.Before(end) && (next.IsZero() || end.Before(next)) {
				next = end
			}
		}
	}
	for _, c := range current {
		if !contains(kept, c) {
			kept = append(kept, c)
		}
	}
	if over := len(kept) - maxBundle; over > 0 {
		kept = slices.Delete(kept, 0, over)
	}
	return encode(kept), next
}

// parse reads the certificates of a bundle and passes over everything else.
func parse(bundle []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return all
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, c)
		}
	}
}

func encode(all []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range all {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes all
	}
	return out.Bytes()
}

func contains(all []*x509.Certificate, one *x509.Certificate) bool {
	return slices.ContainsFunc(all, one.Equal)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
