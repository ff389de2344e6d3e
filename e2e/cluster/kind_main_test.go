package cluster

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// childMode is the environment variable of a child process that only starts a cluster of
// kind, for a test to interrupt: plain, or listening to signals itself.
const (
	childMode      = "BUCKET_ACCESS_CHILD"
	childPlain     = "plain"
	childListening = "listening"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "docker" {
		if err := standIn(os.Getenv(standInDirectory)).docker(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "Error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(child(mode))
	}
	// The tests have documentation addresses and port 443 for themselves.
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// child starts a cluster and waits for its end.
func child(mode string) int {
	ctx := context.Background()
	if mode == childListening {
		var stop func()
		ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
	}
	c, err := Start(ctx, Options{Provider: Kind, WithoutBucket: true, Progress: func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
	}})
	if err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("started")
		<-ctx.Done()
	}
	if err := c.Stop(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("stopped")
	return 0
}
