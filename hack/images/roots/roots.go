// Package roots gives the certificate authorities that the images trust: Mozilla's
// list, as the Go project publishes it in a module. A pinned module is the same on
// every machine, which the list of the machine that builds is not.
package roots

import (
	"bytes"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Module is where the list comes from.
const Module = "golang.org/x/crypto/x509roots/fallback"

// PEM is the list as a file that crypto/x509 and others read. Roots that Mozilla trusts
// only under a condition are left out: a file of certificates can't say the condition.
func PEM() ([]byte, error) {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, fmt.Errorf("writing a certificate of %s as PEM: %w", Module, err)
		}
	}
	if out.Len() == 0 {
		return nil, fmt.Errorf("%s has no certificates without a condition; pin another version in go.mod", Module)
	}
	return out.Bytes(), nil
}
