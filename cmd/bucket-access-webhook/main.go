// Command bucket-access-webhook is the admission webhook: it gives labelled Pods
// what they need to read a bucket of another AWS account without static keys.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// A second signal ends the process at once: the first one's handler is taken
	// away as soon as it has been seen.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
