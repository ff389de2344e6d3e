// Command kubectl-bucket_access is a kubectl plugin (kubectl bucket-access) that answers
// what people ask who give Pods access to buckets. It runs alone, too.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/bucket-access/bucket-access-webhook/pkg/cli"
)

// version is set when a release is linked.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}, version))
}
