// Command certmanager runs cert-manager's own controllers and its cainjector in one
// process, for the tests of the chart's certManager mode: those of self-signed and CA
// issuers. There is no webhook of cert-manager, no ACME and no leader election.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	"github.com/cert-manager/cert-manager/pkg/util"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

// run installs the CRDs and runs the controllers until ctx ends.
func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("certmanager", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig of an administrator of the cluster")
	crds := flags.String("crds", "", "directory with cert-manager's CustomResourceDefinitions")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := klog.Background()
	ctrl.SetLogger(log)
	ctx = klog.NewContext(ctx, log)
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	// It returns when discovery serves their kinds, which is once they are Established.
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{Paths: []string{*crds}, ErrorIfPathMissing: true}); err != nil {
		return fmt.Errorf("installing the CRDs: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := startControllers(ctx, group, *kubeconfig); err != nil {
		return err
	}
	if err := startInjector(ctx, group, config); err != nil {
		return err
	}
	if ctx.Err() == nil {
		fmt.Println("cert-manager is running")
	}
	return group.Wait()
}

// startControllers runs every controller that is registered, and waits for their caches.
func startControllers(ctx context.Context, group *errgroup.Group, kubeconfig string) error {
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		Kubeconfig:    kubeconfig,
		IssuerOptions: controller.IssuerOptions{ClusterResourceNamespace: "cert-manager"},
		CertificateOptions: controller.CertificateOptions{ // cert-manager's defaults
			CertificateRequestMinimumBackoffDuration: time.Hour, CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	})
	if err != nil {
		return fmt.Errorf("setting up the controllers: %w", err)
	}
	base, err := factory.Build()
	if err != nil {
		return fmt.Errorf("setting up the controllers: %w", err)
	}
	for name, construct := range controller.Known() {
		c, err := construct(factory)
		if err != nil {
			return fmt.Errorf("setting up the controller %s: %w", name, err)
		}
		group.Go(func() error {
			// Ended while it still waited for its caches is no error.
			const workers = 5
			if err := c.Run(workers, ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("the controller %s: %w", name, err)
			}
			return nil
		})
	}
	// The informers that the controllers have asked for exist only now.
	base.SharedInformerFactory.Start(ctx.Done())
	base.KubeSharedInformerFactory.Start(ctx.Done())
	base.SharedInformerFactory.WaitForCacheSync(ctx.Done())
	base.KubeSharedInformerFactory.WaitForCacheSync(ctx.Done())
	return nil
}

// startInjector runs the cainjector for webhook configurations, set up as its own command
// does it, and waits for its cache.
func startInjector(ctx context.Context, group *errgroup.Group, config *rest.Config) error {
	all := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, certmanagerv1.AddToScheme} {
		if err := add(all); err != nil {
			return err
		}
	}
	options := ctrl.Options{Scheme: all, Metrics: server.Options{BindAddress: "0"}}
	options.Cache.ReaderFailOnMissingInformer = true
	options.Client.Cache = &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}
	// The name by which the cainjector applies is taken from its user agent.
	mgr, err := ctrl.NewManager(util.RestConfigWithUserAgent(config, "cainjector"), options)
	if err != nil {
		return fmt.Errorf("setting up the cainjector: %w", err)
	}
	err = cainjector.RegisterAllInjectors(ctx, mgr, cainjector.SetupOptions{
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName: true, cainjector.ValidatingWebhookConfigurationName: true,
		},
	})
	if err != nil {
		return fmt.Errorf("setting up the cainjector: %w", err)
	}
	group.Go(func() error { return mgr.Start(ctx) })
	if !mgr.GetCache().WaitForCacheSync(ctx) && ctx.Err() == nil {
		return errors.New("the cainjector's cache did not fill")
	}
	return nil
}
