// Package scale fills a real control plane with far more than most clusters have, and
// measures what the webhook costs there. SCALE is the part of the full size: 1 by make scale.
package scale

import (
	"os"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

func TestMain(m *testing.M) {
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(m.Run())
}
