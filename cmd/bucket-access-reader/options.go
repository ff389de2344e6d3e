package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/reader"
)

// defaultListen is where the sidecar listens: nobody but the Pod's own containers.
const defaultListen = "127.0.0.1:21840"

type options struct {
	config   reader.Config
	listen   string
	logLevel slog.Level
	version  bool
}

// errUsage is a command line that can't be understood; it was explained already.
var errUsage = errors.New("usage")

func parse(args []string, environment func(string) (string, bool), stderr io.Writer) (*options, error) {
	o := &options{config: reader.Config{Environment: environment}}
	flags := flag.NewFlagSet("bucket-access-reader", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o.bind(flags, environment)
	flags.Usage = func() {
		fmt.Fprint(stderr, "bucket-access-reader proves that this Pod can read its bucket, and serves its objects:\n"+
			"  GET /s3/{key}    an object      GET /s3/?prefix=   a listing     GET /        the page\n"+
			"  GET /readyz      access proven  GET /status        why (not)     GET /metrics\n"+
			"\n  bucket-access-reader [flags]\n  bucket-access-reader check [--address=127.0.0.1:21840]   one line; exit code 0 when access is proven\n\nFlags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if o.version {
		return o, nil
	}
	var faults []error
	if rest := flags.Args(); len(rest) > 0 {
		faults = append(faults, fmt.Errorf("unexpected argument %q; the only command is check", rest[0]))
	}
	if _, _, err := net.SplitHostPort(o.listen); err != nil {
		faults = append(faults, fmt.Errorf("--listen is %q; write HOST:PORT, like %s, or :8080 for all addresses", o.listen, defaultListen))
	}
	if err := errors.Join(append(faults, o.config.Validate())...); err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintln(stderr, "bucket-access-reader: "+strings.TrimSuffix(line, "\n"))
		}
		return nil, errUsage
	}
	return o, nil
}

func (o *options) bind(f *flag.FlagSet, environment func(string) (string, bool)) {
	env := func(name string) string { value, _ := environment(name); return value }
	c := &o.config
	f.StringVar(&o.listen, "listen", defaultListen, "address to serve on; :PORT is all addresses, and then needs a NetworkPolicy")
	f.StringVar(&c.Bucket, "bucket", env(v1alpha1.EnvBucketName), "bucket to read (default $"+v1alpha1.EnvBucketName+")")
	f.StringVar(&c.Prefix, "prefix", env(v1alpha1.EnvBucketPrefix), "prefix that keys are confined to (default $"+v1alpha1.EnvBucketPrefix+")")
	f.StringVar(&c.ProbeKey, "probe-key", "", "object whose first byte proves access; empty proves it by a listing")
	f.StringVar(&c.Expect.Issuer, "expect-issuer", "", "token issuer that the policy is for")
	f.StringVar(&c.Expect.Audience, "expect-audience", "", "audience that the policy says")
	f.Func("expect-subject", "subject that the policy lists, like system:serviceaccount:NAMESPACE:NAME with * and ? as wildcards; may be repeated",
		func(s string) error {
			c.Expect.Subjects = append(c.Expect.Subjects, s)
			return nil
		})
	f.Func("allowed-hosts", "names, separated by commas, by which the reader may be addressed besides localhost and IP addresses", func(s string) error {
		for name := range strings.SplitSeq(s, ",") {
			if name = strings.TrimSpace(name); name != "" {
				c.AllowedHosts = append(c.AllowedHosts, name)
			}
		}
		return nil
	})
	f.DurationVar(&c.ProbeInterval, "probe-interval", reader.DefaultProbeInterval, "time between two proofs of access")
	f.DurationVar(&c.ProbeTimeout, "probe-timeout", reader.DefaultProbeTimeout, "time that one proof may take")
	f.DurationVar(&c.IdleTimeout, "idle-timeout", reader.DefaultIdleTimeout, "time after which a transfer without progress is ended")
	f.DurationVar(&c.ShutdownDelay, "shutdown-delay", 0, "time to go on serving, unready, after SIGTERM, until a Service has heard of it")
	f.IntVar(&c.MaxTransfers, "max-transfers", reader.DefaultMaxTransfers, "transfers at once; more are answered 503")
	f.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
}
