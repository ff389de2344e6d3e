package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const chromiumPath = "/usr/bin/chromium"

// rebound is a name that resolves to the reader in the tests' Chromium, as a name of an
// attacker does after DNS rebinding.
const rebound = "rebound.example.com"

// Shared by the tests: each works in a Namespace, a bucket and a tab of its own.
var (
	cluster  *lab.Lab
	accountB *lab.AccountB
	chromium context.Context
)

func TestMain(m *testing.M) {
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(func() int {
		stop, err := start()
		defer func() {
			if err := stop(); err != nil {
				fmt.Fprintln(os.Stderr, "browser:", err)
			}
		}()
		if err != nil {
			fmt.Fprintln(os.Stderr, "browser:", err)
			return 1
		}
		return m.Run()
	}())
}

// start brings up a lab with two replicas, Account B and Chromium. Call stop also after an error.
func start() (stop func() error, err error) {
	stop = func() error { return nil }
	if _, err := os.Stat(chromiumPath); err != nil {
		return stop, errors.New("there is no " + chromiumPath + "; install it with: make chromium")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cluster, err = lab.Start(ctx, lab.Options{LogDir: os.Getenv("LOG_DIR"), Progress: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "browser: "+format+"\n", args...)
	}})
	if err != nil {
		return stop, err
	}
	stop = cluster.Stop
	for _, name := range []string{"replica-a", "replica-b"} {
		if _, err := cluster.StartReplica(ctx, name); err != nil {
			return stop, err
		}
	}
	if accountB, err = cluster.StartAccountB(ctx); err != nil {
		return stop, err
	}
	if err := accountB.CreateProvider(ctx, "sts.amazonaws.com"); err != nil {
		return stop, err
	}
	end, err := startChromium(filepath.Join(cluster.Dir, "chromium"))
	return func() error { end(); return cluster.Stop() }, err
}

// startChromium starts it in the lab's network, without the machine's proxies, variables
// and profiles.
func startChromium(home string) (end func(), err error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return func() {}, err
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromiumPath), chromedp.UserDataDir(filepath.Join(home, "profile")), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("host-resolver-rules", "MAP "+rebound+" 127.0.0.1"),
		chromedp.NoInheritEnv, chromedp.Env("PATH="+os.Getenv("PATH"), "HOME="+home, "TMPDIR="+home, "LANG=C.UTF-8"),
	}
	for _, flag := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "no-proxy-server",
		// All tabs are at work at once, whichever is in front.
		"disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	// It ends with its allocator.
	chromium, _ = chromedp.NewContext(allocator)
	if err := chromedp.Do(chromium); err != nil {
		return end, fmt.Errorf("starting Chromium: %w", err)
	}
	return end, nil
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
