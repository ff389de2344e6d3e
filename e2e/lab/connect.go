package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Connect is a lab over a cluster that somebody else has started: it has no control plane
// to stop, and installs nothing.
func Connect(_ context.Context, kubeconfig string, options Options) (*Lab, error) {
	l, err := prepare(options)
	if err != nil {
		return nil, err
	}
	l.host, l.Issuer = options.Host, options.Issuer
	if l.Kubeconfig, err = filepath.Abs(kubeconfig); err != nil {
		return nil, err
	}
	if l.Config, err = clientcmd.BuildConfigFromFlags("", l.Kubeconfig); err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	l.Config.QPS, l.Config.Burst = 500, 1000
	if l.Client, err = client.New(l.Config, client.Options{}); err != nil {
		return nil, fmt.Errorf("KUBECONFIG: %w", err)
	}
	l.Dir, err = os.MkdirTemp("", "lab-")
	return l, err
}
