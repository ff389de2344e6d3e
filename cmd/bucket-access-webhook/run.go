package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/certs"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/reconcile"
	"github.com/bucket-access/bucket-access-webhook/pkg/serving"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// name is who writes Events.
const name = "bucket-access-webhook"

// version is set when a release is linked.
var version = "devel"

// run is the program: 0 when it ended as it was told to, 1 when it failed, 2 when
// the command line can't be understood.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == checkCommand {
		return check(ctx, args[1:], stdout, stderr)
	}
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case o.version:
		fmt.Fprintln(stdout, "bucket-access-webhook", version)
		return 0
	}
	log := newLog(o.observability, stderr)
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	if err := serve(ctx, o, log); err != nil {
		log.Error(err, "The webhook ended")
		return 1
	}
	return 0
}

func newLog(o observabilityOptions, w io.Writer) logr.Logger {
	handlerOptions := &slog.HandlerOptions{Level: o.logLevel}
	if o.logFormat == "text" {
		return logr.FromSlogHandler(slog.NewTextHandler(w, handlerOptions))
	}
	return logr.FromSlogHandler(slog.NewJSONHandler(w, handlerOptions))
}

// serve runs the webhook until ctx ends, then drains it: unready at once, serving
// on with connections closed for the shutdown delay, and only then shut down. An
// API server never repeats a call that broke, so none may break.
func serve(ctx context.Context, o *options, log logr.Logger) error {
	config, err := restConfig(o.cluster)
	if err != nil {
		return err
	}
	source, err := newCertificate(config, o, log.WithName("certs"))
	if err != nil {
		return err
	}
	metrics.CertificateExpiry(ctrlmetrics.Registry, func() time.Time { return certs.Expiry(source) })
	recorder := metrics.New(ctrlmetrics.Registry)
	mgr, err := newManager(ctx, config, o, source, newServer(o, source, recorder, log.WithName("serving")))
	if err != nil {
		return err
	}
	server, cluster, err := assemble(mgr, o, recorder, log)
	if err != nil {
		return err
	}
	if err := checks(mgr, source, server, cluster); err != nil {
		return err
	}
	managerCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		<-ctx.Done()
		log.Info("Draining", "delay", o.availability.shutdownDelay.String())
		server.Drain()
		time.Sleep(o.availability.shutdownDelay)
		stop()
	}()
	log.Info("Starting", "version", version, "namespace", o.policies.namespace)
	return mgr.Start(managerCtx)
}

func restConfig(o clusterOptions) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("no access to a cluster (give --kubeconfig, or run as a Pod): %w", err)
	}
	config.QPS, config.Burst = float32(o.qps), o.burst
	config.UserAgent = "bucket-access-webhook/" + version
	return config, nil
}

// inProtobuf is how built-in types are read with the least memory.
func inProtobuf(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return config
}

// newServer is what API servers, and all who reach its port, connect to.
func newServer(o *options, source *certificate, recorder *metrics.Recorder, log logr.Logger) *serving.Server {
	config := &tls.Config{MinVersion: tlsVersions[o.serving.tlsMinVersion], GetCertificate: source.GetCertificate}
	options := serving.Options{
		Host: o.serving.host, Port: o.serving.port, TLS: config, Connections: o.availability.connections, HTTP2: o.availability.http2,
		Refused: recorder.ConnectionRefused, Log: log,
	}
	if o.serving.clientCAName != "" {
		options.ClientCA = filepath.Join(o.serving.certDir, o.serving.clientCAName)
	}
	return serving.New(options)
}

func newManager(ctx context.Context, config *rest.Config, o *options, source *certificate, server webhook.Server) (ctrl.Manager, error) {
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Cache:                  source.cacheOptions(o),
		Metrics:                metricsserver.Options{BindAddress: o.observability.metricsAddress},
		HealthProbeBindAddress: o.observability.healthAddress,
		WebhookServer:          server,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up: %w", err)
	}
	return mgr, source.register(ctx, mgr)
}

// assemble wires the parts together; data flows from the top to the bottom.
func assemble(mgr ctrl.Manager, o *options, recorder *metrics.Recorder, log logr.Logger) (*admission.Server, *watch.Cluster, error) {
	clients, err := kubernetes.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, nil, fmt.Errorf("setting up: %w", err)
	}
	core, err := typedcorev1.NewForConfigAndClient(inProtobuf(mgr.GetConfig()), mgr.GetHTTPClient())
	if err != nil {
		return nil, nil, fmt.Errorf("setting up: %w", err)
	}
	client, live, events := mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder(name)
	leader := newLeader(o, clients, log.WithName("leader"))
	known, running, namespaces := watch.NewAccountIndex(), watch.NewPodIndex(), watch.NewNamespaceIndex()
	bounds := watch.LiveReads{PerSecond: o.cluster.liveReads, Waiting: (o.availability.limits.InFlight + 1) / 2}
	cluster := watch.NewCluster(known, namespaces, live, bounds, recorder, decide.Cluster{Region: o.cluster.region})
	policies := &watch.Policies{
		Store: &policy.Store{}, Documents: watch.NewDocuments(core.ConfigMaps(o.policies.namespace), log.WithName("watch")), Uncached: live, Writer: client,
		Namespace: o.policies.namespace, LastGoodName: o.policies.lastGoodConfigMap, Recorder: recorder, Cluster: cluster, Log: log.WithName("policies"),
		Limit:    rate.NewLimiter(rate.Limit(o.cluster.liveReads), int(2*o.cluster.liveReads)+1),
		Reporter: &watch.Reporter{Events: events, Recorder: recorder, Log: log.WithName("policies"), Leading: leader.Leading},
	}
	accounts := &reconcile.ServiceAccounts{
		Accounts: known, Writer: client, Policies: policies, Facts: cluster.Facts, Events: events, Leading: leader.Leading,
		Excluded: append(strings.Split(o.cluster.excluded, ","), o.policies.namespace), Recorder: recorder, Log: log.WithName("serviceaccounts"),
	}
	everything := func() { policies.Again(); accounts.All() }
	pods, err := followPods(mgr, cluster.Ready, running, log.WithName("watch"))
	if err != nil {
		return nil, nil, fmt.Errorf("setting up: %w", err)
	}
	leader.Elected = func(ctx context.Context) { everything(); pods(ctx) }
	issuer := &watch.Issuer{
		Cluster: cluster, Client: clients.RESTClient(), Log: log.WithName("issuer"), Region: o.cluster.region, Changed: everything,
	}
	counter := &reconcile.Pods{
		Index: running, Accounts: known, Namespaces: namespaces, Policies: policies, Facts: cluster.Facts, Leading: leader.Leading,
		Read: func(ctx context.Context, namespace string) error {
			return watch.PodAccounts(ctx, clients, namespace, running)
		},
		Excluded: accounts.Excluded, Recorder: recorder, Log: log.WithName("pods"),
	}
	err = errors.Join(policies.Register(mgr), accounts.Register(mgr), counter.Register(mgr),
		follow(mgr, known, namespaces, log.WithName("watch")), mgr.Add(issuer), mgr.Add(leader), mgr.Add(runnable{manageMemory(cluster, policies)}))
	if err != nil {
		return nil, nil, fmt.Errorf("setting up: %w", err)
	}
	reader, _ := o.reader.settings() // checked with the command line
	service := &admission.Service{
		Cluster: cluster, Policies: policies, Namespace: o.policies.namespace, EKSAudience: o.cluster.eksAudience, Reader: reader,
	}
	server := admission.NewServer(service, o.availability.limits, recorder, log.WithName("admission"))
	for _, entry := range admission.Entries() {
		mgr.GetWebhookServer().Register(entry.Path(), server.Handler(entry))
	}
	return server, cluster, nil
}

// newLeader stands for election among the replicas.
func newLeader(o *options, clients kubernetes.Interface, log logr.Logger) *reconcile.Leader {
	host, _ := os.Hostname() // an empty one still leaves the random part
	return &reconcile.Leader{
		Client: clients, Namespace: o.policies.namespace, Name: o.leadership.name, Identity: host + "_" + string(uuid.NewUUID()),
		Lease: o.leadership.lease, Renew: o.leadership.renewDeadline, Retry: o.leadership.retryPeriod, Log: log,
	}
}

// checks: alive while the process answers; ready when a certificate is served, policies
// are loaded and ServiceAccounts and Namespaces listed, and not any more while draining.
func checks(mgr ctrl.Manager, source *certificate, server *admission.Server, cluster *watch.Cluster) error {
	return errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("certificate", certs.Ready(source, source.now)),
		mgr.AddReadyzCheck("serving", mgr.GetWebhookServer().StartedChecker()),
		mgr.AddReadyzCheck("cluster", func(*http.Request) error { return cluster.Ready() }),
		mgr.AddReadyzCheck("policies", func(*http.Request) error { return server.Ready() }),
	)
}

// runnable runs on every replica, leader or not.
type runnable struct{ start func(context.Context) error }

func (r runnable) Start(ctx context.Context) error { return r.start(ctx) }
func (runnable) NeedLeaderElection() bool          { return false }
