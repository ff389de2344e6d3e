package main

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/bucket-access/bucket-access-webhook/pkg/certs"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// Where the serving certificate comes from.
const (
	certificatesManaged = "managed"
	certificatesFiles   = "files"
)

type certificateOptions struct {
	source, caSecret, caName, service, configuration string
	caDuration, duration, settle                     time.Duration
}

func (o *certificateOptions) bind(f *flag.FlagSet) {
	f.StringVar(&o.source, "certificates", certificatesFiles,
		"where the serving certificate comes from: files (in --cert-dir), or managed (the webhook makes it and writes its CA into the webhook configurations)")
	f.StringVar(&o.caName, "ca-name", "",
		"with files: file in --cert-dir with the CA that the webhook writes into the webhook configurations; empty leaves that to others")
	f.StringVar(&o.caSecret, "ca-secret", name+"-ca", "with managed: Secret in --namespace that keeps the CA")
	f.StringVar(&o.service, "service-name", name, "with managed: Service in --namespace that the certificate is for")
	f.StringVar(&o.configuration, "webhook-configuration", name, "name of the webhook configurations that the CA is written into")
	f.DurationVar(&o.caDuration, "ca-duration", 365*24*time.Hour, "with managed: lifetime of the CA, which is replaced after two thirds of it")
	f.DurationVar(&o.duration, "certificate-duration", 7*24*time.Hour,
		"with managed: lifetime of the serving certificate, which is renewed after two thirds of it")
	f.DurationVar(&o.settle, "certificate-settle", 10*time.Second,
		"with managed: time for which a new CA must have stood in every webhook configuration, and a new certificate have existed, before it is served")
}

func (o *certificateOptions) validate(check func(ok bool, format string, args ...any)) {
	managed := o.source == certificatesManaged
	check(managed || o.source == certificatesFiles, "--certificates is %q; it must be files or managed", o.source)
	check(!managed || o.caName == "", "--ca-name is %q; it is for --certificates=files only", o.caName)
	check(!managed || o.caSecret != "" && o.service != "" && o.configuration != "",
		"--ca-secret, --service-name and --webhook-configuration must not be empty with --certificates=managed")
	check(o.settle > 0 && o.duration >= 6*o.settle,
		"--certificate-duration (%s) must be at least six times --certificate-settle (%s), which must be positive", o.duration, o.settle)
	check(o.caDuration >= 3*o.duration, "--ca-duration (%s) must be at least three times --certificate-duration (%s)", o.caDuration, o.duration)
}

// certificate is the source, what runs beside it, and the clock it is judged by.
type certificate struct {
	certs.Source
	now     func() time.Time
	watched bool // changes of webhook configurations are told to changed
	secret  bool // and those of the Secret
	changed func()
	beside  func(context.Context) error
}

func newCertificate(config *rest.Config, o *options, log logr.Logger) (*certificate, error) {
	c := o.certificates
	if c.source == certificatesManaged {
		managed, err := certs.NewManaged(config, certs.Options{
			Namespace: o.policies.namespace, Secret: c.caSecret, Service: c.service, Configuration: c.configuration,
			CADuration: c.caDuration, LeafDuration: c.duration, Settle: c.settle,
		}, log)
		if err != nil {
			return nil, err
		}
		return &certificate{Source: managed, now: managed.Now, watched: true, secret: true, changed: managed.Changed}, nil
	}
	files := &certificate{Source: certs.NewFiles(o.serving.certDir, o.serving.certName, o.serving.keyName, log), now: time.Now}
	if c.caName == "" {
		return files, nil
	}
	clock := certs.NewClock()
	config = rest.CopyConfig(config)
	config.Wrap(clock.Wrap)
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("setting up certificates: %w", err)
	}
	ca := certs.NewCAFile(filepath.Join(o.serving.certDir, c.caName), certs.Configurations{Client: clients, Name: c.configuration}, clock, log)
	files.watched, files.changed, files.beside = true, ca.Changed, ca.Start
	return files, nil
}

// cacheOptions let the manager's cache hold what is watched for the certificate, and nothing else:
// of policies, ServiceAccounts, Namespaces and Pods there are stores of their own.
func (c *certificate) cacheOptions(o *options) cache.Options {
	return cache.Options{ByObject: watch.CertificateObjects(o.policies.namespace, o.certificates.caSecret, o.certificates.configuration)}
}

// register runs what keeps the certificate.
func (c *certificate) register(ctx context.Context, mgr ctrl.Manager) error {
	if err := mgr.Add(runnable{c.Start}); err != nil {
		return err
	}
	if c.beside != nil {
		if err := mgr.Add(runnable{c.beside}); err != nil {
			return err
		}
	}
	if !c.watched {
		return nil
	}
	told := toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { c.changed() }, UpdateFunc: func(any, any) { c.changed() }, DeleteFunc: func(any) { c.changed() },
	}
	for _, object := range watch.CertificateKinds(c.secret) {
		informer, err := mgr.GetCache().GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %s: %w", object.GetObjectKind().GroupVersionKind().Kind, err)
		}
		if _, err := informer.AddEventHandler(told); err != nil {
			return fmt.Errorf("watching %s: %w", object.GetObjectKind().GroupVersionKind().Kind, err)
		}
	}
	return nil
}
