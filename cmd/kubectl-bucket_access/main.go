// Command kubectl-bucket_access is a kubectl plugin (kubectl bucket-access) that answers
// what people ask who give Pods access to buckets. It runs alone, too.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"

	"github.com/bucket-access/bucket-access-webhook/pkg/cli"
)

// version is set when a release is linked.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	klog.SetLogger(logr.Discard()) // client-go's own log: what goes wrong is said once, by the command
	os.Exit(cli.Run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}, version))
}
