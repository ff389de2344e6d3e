package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// options are the flags, by concern.
type options struct {
	serving       servingOptions
	certificates  certificateOptions
	policies      policyOptions
	cluster       clusterOptions
	availability  availabilityOptions
	leadership    leaderOptions
	observability observabilityOptions
	reader        readerOptions
	version       bool
}

type servingOptions struct {
	host, certDir, certName, keyName, clientCAName, tlsMinVersion string
	port                                                          int
}

type policyOptions struct {
	namespace, lastGoodConfigMap string
}

type clusterOptions struct {
	kubeconfig, region, eksAudience, excluded string
	qps                                       float64
	burst                                     int
	liveReads                                 float64
}

type availabilityOptions struct {
	limits        admission.Limits
	connections   int
	http2         bool
	shutdownDelay time.Duration
}

type readerOptions struct {
	image, cpuRequest, memoryRequest, memoryLimit string
}

type leaderOptions struct {
	name                              string
	lease, renewDeadline, retryPeriod time.Duration
}

type observabilityOptions struct {
	metricsAddress, healthAddress, logFormat string
	logLevel                                 slog.Level
}

// group is the flags of one concern, as --help shows them.
type group struct {
	title string
	bind  func(*flag.FlagSet)
}

func (o *options) groups() []group {
	return []group{
		{"Serving", o.serving.bind}, {"Certificates", o.certificates.bind}, {"Policies", o.policies.bind}, {"Cluster", o.cluster.bind},
		{"Demo reader", o.reader.bind}, {"Availability", o.availability.bind}, {"Leader election", o.leadership.bind}, {"Observability", o.observability.bind},
	}
}

func (o *servingOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.host, "host", "", "address to serve on; empty is all")
	f.IntVar(&o.port, "port", 9443, "port to serve on")
	f.StringVar(&o.certDir, "cert-dir", "/etc/bucket-access-webhook/tls", "directory of the serving certificate, which is followed")
	f.StringVar(&o.certName, "cert-name", "tls.crt", "file of the certificate in --cert-dir")
	f.StringVar(&o.keyName, "key-name", "tls.key", "file of the private key in --cert-dir")
	f.StringVar(&o.clientCAName, "client-ca-name", "",
		"file in --cert-dir with the CA of client certificates; when set, only API servers that present one are answered")
	f.StringVar(&o.tlsMinVersion, "tls-min-version", "1.3", "oldest TLS version: 1.2 or 1.3")
}

func (o *policyOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the webhook's own namespace, where policies are (default $POD_NAMESPACE)")
	f.StringVar(&o.lastGoodConfigMap, "last-good-configmap", "bucket-access-webhook-last-good", "ConfigMap that keeps last good policies")
}

func (o *clusterOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig; empty is $KUBECONFIG, else the Pod's own access")
	f.StringVar(&o.region, "cluster-region", "", "AWS region that EKS's own webhook injects; empty is the region inside an EKS token issuer")
	f.StringVar(&o.eksAudience, "eks-audience", v1alpha1.DefaultAudience, "audience that EKS's own webhook injects by default")
	f.StringVar(&o.excluded, "exclude-namespaces", "kube-system,kube-node-lease",
		"namespaces besides --namespace whose ServiceAccounts are left alone, as the webhook configurations exclude them")
	f.Float64Var(&o.qps, "kube-api-qps", 50, "requests a second to the API server")
	f.IntVar(&o.burst, "kube-api-burst", 100, "burst of requests to the API server")
	f.Float64Var(&o.liveReads, "live-reads-per-second", 20,
		"reads a second of what the cache does not have yet, each of objects and of policies; twice that at once")
}

func (o *availabilityOptions) bind(f *flag.FlagSet) {
	o.limits = admission.DefaultLimits()
	f.Int64Var(&o.limits.BodyBytes, "max-request-bytes", o.limits.BodyBytes, "largest request body")
	f.Int64Var(&o.limits.InFlight, "max-in-flight", o.limits.InFlight,
		"requests at once, more are answered 429; half of them may wait for the API server, more are answered 503")
	f.Int64Var(&o.limits.InFlightBytes, "max-in-flight-bytes", o.limits.InFlightBytes, "bytes of request bodies at once; more are answered 429")
	f.IntVar(&o.connections, "max-connections", 1000,
		"connections at once, shared fairly between the addresses they come from: one that has fewer than another takes the place of an idle one of that")
	f.BoolVar(&o.http2, "enable-http2", false,
		"speak HTTP/2, too; no API server asks a webhook by it, and of a connection's many requests none counts for --max-connections")
	f.DurationVar(&o.limits.Timeout, "request-timeout", o.limits.Timeout, "time for one request, where the API server allows no less")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 10*time.Second,
		"time to go on serving, unready and closing connections, after SIGTERM, until every API server has heard of it")
}

func (o *leaderOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.name, "leader-election-id", "bucket-access-webhook",
		"name of the Lease, in --namespace; its holder alone annotates ServiceAccounts and writes Events")
	f.DurationVar(&o.lease, "leader-election-lease-duration", 15*time.Second, "time until a silent leader is replaced")
	f.DurationVar(&o.renewDeadline, "leader-election-renew-deadline", 10*time.Second, "time after which a leader that can't renew gives up")
	f.DurationVar(&o.retryPeriod, "leader-election-retry-period", 2*time.Second, "time between tries")
}

func (o *observabilityOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.metricsAddress, "metrics-bind-address", ":8080", "address of /metrics, plain HTTP; 0 turns it off")
	f.StringVar(&o.healthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	f.StringVar(&o.logFormat, "log-format", "json", "json or text")
	f.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
}

// errUsage is a command line that can't be understood; it was explained already.
var errUsage = errors.New("usage")

// parse reads the command line. Errors name the flag, what was found and what is allowed.
func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	all := flag.NewFlagSet("bucket-access-webhook", flag.ContinueOnError)
	all.SetOutput(stderr)
	all.BoolVar(&o.version, "version", false, "print the version and exit")
	for _, g := range o.groups() {
		g.bind(all)
	}
	all.Usage = func() { usage(stderr) }
	if err := all.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if faults := o.validate(all.Args()); len(faults) > 0 && !o.version {
		for _, fault := range faults {
			fmt.Fprintln(stderr, "bucket-access-webhook: "+fault)
		}
		return nil, errUsage
	}
	return o, nil
}

func (o *options) validate(rest []string) []string {
	var faults []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	limits := o.availability.limits
	check(len(rest) == 0, "unexpected argument %q; everything is a flag but the command check, see --help", strings.Join(rest, " "))
	check(o.policies.namespace != "", "--namespace is missing: name the webhook's own namespace, or set $POD_NAMESPACE")
	check(o.serving.port > 0 && o.serving.port < 65536, "--port is %d; it must be 1 to 65535", o.serving.port)
	_, known := tlsVersions[o.serving.tlsMinVersion]
	check(known, "--tls-min-version is %q; it must be 1.2 or 1.3", o.serving.tlsMinVersion)
	check(o.observability.logFormat == "json" || o.observability.logFormat == "text", "--log-format is %q; it must be json or text", o.observability.logFormat)
	check(limits.BodyBytes > 0 && limits.InFlight > 0 && limits.Timeout > 0, "--max-request-bytes, --max-in-flight and --request-timeout must be positive")
	check(o.availability.connections > 0, "--max-connections must be positive")
	check(limits.InFlightBytes >= limits.BodyBytes,
		"--max-in-flight-bytes (%d) must not be less than --max-request-bytes (%d)", limits.InFlightBytes, limits.BodyBytes)
	check(o.cluster.liveReads > 0 && o.cluster.qps > 0 && o.cluster.burst > 0, "--live-reads-per-second, --kube-api-qps and --kube-api-burst must be positive")
	check(o.availability.shutdownDelay >= 0, "--shutdown-delay must not be negative")
	check(o.leadership.lease > o.leadership.renewDeadline && o.leadership.renewDeadline > o.leadership.retryPeriod,
		"--leader-election-lease-duration must be more than -renew-deadline, and that more than -retry-period")
	o.certificates.validate(check)
	_, reader := o.reader.settings()
	faults = append(faults, reader...)
	return faults
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// usage prints the flags by concern.
func usage(w io.Writer) {
	fmt.Fprintln(w, "bucket-access-webhook gives labelled Pods what they need to read a bucket of another AWS account.")
	fmt.Fprintln(w, "bucket-access-webhook check tells whether it is called and answers; check --help lists its flags.")
	for _, g := range (&options{}).groups() {
		set := flag.NewFlagSet(g.title, flag.ContinueOnError)
		set.SetOutput(w)
		g.bind(set)
		fmt.Fprintf(w, "\n%s:\n", g.title)
		set.PrintDefaults()
	}
}
