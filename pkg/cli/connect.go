package cli

import (
	"fmt"

	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// connection is how a command asks the API server.
type connection struct {
	config    *rest.Config
	client    client.Client
	clients   kubernetes.Interface
	namespace string // of the kubeconfig's context or --namespace
	explicit  bool   // whether --namespace was given
}

// connect uses the kubeconfig as kubectl does.
func (e *environment) connect() (*connection, error) {
	config, err := e.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	// Lists of several kinds follow each other at once; a person waits.
	config.QPS, config.Burst = 50, 100
	c := &connection{config: config}
	if c.clients, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	mapper, err := e.flags.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	if c.client, err = client.New(config, client.Options{Scheme: scheme.Scheme, Mapper: mapper}); err != nil {
		return nil, err
	}
	if c.namespace, c.explicit, err = e.flags.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, fmt.Errorf("the kubeconfig's namespace: %w", err)
	}
	return c, nil
}

// place is where the webhook is installed.
type place struct {
	own, configuration string
}

// Flags that name another installation.
const (
	flagOwn           = "webhook-namespace"
	flagConfiguration = "webhook-configuration"
)

func (p *place) bind(f *pflag.FlagSet) {
	f.StringVar(&p.own, flagOwn, defaultSystem, "namespace of the webhook, where policies are")
	f.StringVar(&p.configuration, flagConfiguration, "bucket-access-webhook", "name of the webhook configurations and the backstops")
}

// explain says what to do where policies can't be read, without which nothing can be said.
func (p *place) explain(err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w\nlet it read policies: the Role bucket-access-viewer in namespace %s has the right to (viewer.subjects of the chart)", err, p.own)
	}
	return err
}
