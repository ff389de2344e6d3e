package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/bucket-access/bucket-access-webhook/pkg/reader"
)

// version is set when a release is linked.
var version = "devel"

// Exit codes: 1 when there is no access or serving failed, 2 when the command line or
// the environment can't be understood.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func run(ctx context.Context, args []string, environment func(string) (string, bool), stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "check" {
		return check(ctx, args[1:], stdout, stderr)
	}
	o, err := parse(args, environment, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "bucket-access-reader", version)
		return exitOK
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: o.logLevel}))
	if err := serve(ctx, o, log); err != nil {
		log.Error("The reader ended", "error", err.Error())
		return exitFailed
	}
	return exitOK
}

func serve(ctx context.Context, o *options, log *slog.Logger) error {
	server, err := reader.New(ctx, &o.config, log)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen=%s: %w", o.listen, err)
	}
	log.Info("Serving", "version", version, "address", listener.Addr().String(), "bucket", o.config.Bucket)
	return server.Serve(ctx, listener)
}

// check asks a reader that runs beside and prints one line: the exec probe.
func check(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bucket-access-reader check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	address := flags.String("address", defaultListen, "address of the reader to ask")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	line, ready, err := reader.AskReady(ctx, *address)
	if err != nil {
		fmt.Fprintln(stdout, err)
		return exitFailed
	}
	fmt.Fprintln(stdout, line)
	if !ready {
		return exitFailed
	}
	return exitOK
}
