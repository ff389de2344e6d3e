package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

func TestMain(m *testing.M) {
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// settings bound the run; without any in the environment it is a short one.
type settings struct {
	pods, changes int           // at least so many creations, and changes of the policy that are broken and mended
	limit         time.Duration // and no longer than this
	seed          uint64        // of the order of faults
	short         bool          // without the longest of them
	manifests     string        // what is installed; empty is what fits the Kubernetes
}

// theSettings are read from CHAOS_PODS, CHAOS_CHANGES, CHAOS_TIME, CHAOS_SEED and CHAOS_MODE.
func theSettings(t *testing.T) settings {
	t.Helper()
	s := settings{pods: number(t, "CHAOS_PODS", 500), changes: number(t, "CHAOS_CHANGES", 50), limit: 10 * time.Minute, short: os.Getenv("CHAOS_PODS") == ""}
	s.seed = uint64(number(t, "CHAOS_SEED", rand.IntN(1_000_000)))
	switch mode := os.Getenv("CHAOS_MODE"); mode {
	case "":
	case "Webhook":
		s.manifests = "older-kubernetes"
	case "Policy":
		s.manifests = "default"
	default:
		t.Fatalf("CHAOS_MODE is %q; it must be Webhook or Policy, as serviceAccountPods.mode", mode)
	}
	if text := os.Getenv("CHAOS_TIME"); text != "" {
		limit, err := time.ParseDuration(text)
		must(t, err)
		s.limit = limit
	}
	return s
}

func number(t *testing.T, variable string, without int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return without
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s is %q; it must be a whole number", variable, text)
	}
	return n
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// until polls what has to come about and says what is missing, "" when nothing is.
func until(ctx context.Context, what string, limit time.Duration, missing func() string) error {
	for deadline := time.Now().Add(limit); ; {
		said := missing()
		if said == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not in %s: %s", what, limit, said)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
