package lab

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
)

// marking is the first Kubernetes that serves MutatingAdmissionPolicies without a switch.
var marking = version.MajorMinor(1, 36)

// askVersion asks the API server for its version, and chooses what is made for it.
func (l *Lab) askVersion(context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(l.Config)
	if err != nil {
		return err
	}
	said, err := client.ServerVersion()
	if err != nil {
		return fmt.Errorf("the API server's version: %w", err)
	}
	if l.Version, err = version.ParseGeneric(said.GitVersion); err != nil {
		return fmt.Errorf("the API server's version: %w", err)
	}
	if l.options.Manifests == "" {
		l.options.Manifests = "older-kubernetes"
		if l.MarksPods() {
			l.options.Manifests = "default"
		}
	}
	return nil
}

// MarksPods tells whether the API server can mark the Pods of labelled ServiceAccounts
// (serviceAccountPods mode Policy). It goes by the version alone, so that on a new one
// nothing is left out because something is missing.
func (l *Lab) MarksPods() bool { return l.Version.AtLeast(marking) }

// Manifests is the directory of those that were installed.
func (l *Lab) Manifests() string { return "manifests/" + l.options.Manifests }
