// Package cluster brings up the cluster that tests with real Pods run on: a node on this
// machine, kind, or whatever a KUBECONFIG leads to.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/e2e/node"
)

// Providers of a cluster, as the environment variable PROVIDER names them.
const (
	Node     = "node"     // a node of this machine's own: Linux, root
	Kind     = "kind"     // kind, where Docker runs
	Existing = "existing" // what KUBECONFIG leads to
)

// Images are references to what the cluster's nodes can run.
type Images struct {
	Webhook, Reader, App string
}

// Cluster is a running cluster without the webhook.
type Cluster struct {
	*lab.Lab

	Provider string
	Images   Images
	Bucket   *Bucket

	stops []func() error
}

// Options of a cluster.
type Options struct {
	Provider string // empty is Node
	// WithoutBucket leaves out the bucket of another account: the caller makes its own.
	WithoutBucket bool
	LogDir        string
	Progress      func(format string, args ...any)
}

// Provider is the one that the environment asks for.
func Provider() string {
	if provider := os.Getenv("PROVIDER"); provider != "" {
		return provider
	}
	return Node
}

// Isolate gives the node provider namespaces of its own; call it first in main. See
// lab.Isolate.
func Isolate(outside int) (code int, again bool) {
	if Provider() != Node {
		return 0, false
	}
	return lab.Isolate(outside, node.Sweep)
}

// Start brings the cluster up, with a bucket of another account beside it. End it with
// Stop, also after an error.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	c := &Cluster{Provider: options.Provider}
	if c.Provider == "" {
		c.Provider = Node
	}
	if options.Progress == nil {
		options.Progress = func(string, ...any) {}
	}
	start := map[string]func(context.Context, Options) error{Node: c.startNode, Kind: c.startKind, Existing: c.connect}[c.Provider]
	if start == nil {
		return c, fmt.Errorf("PROVIDER is %q; it must be %s, %s or %s", c.Provider, Node, Kind, Existing)
	}
	return c, start(ctx, options)
}

// Stop takes away what Start has made, the youngest first.
func (c *Cluster) Stop() error {
	var errs []error
	for _, stop := range slices.Backward(c.stops) {
		errs = append(errs, stop())
	}
	c.stops = nil
	return errors.Join(errs...)
}

// atEnd has Stop call a function.
func (c *Cluster) atEnd(stop func() error) { c.stops = append(c.stops, stop) }

// startNode is a lab's control plane with a node of this machine.
func (c *Cluster) startNode(ctx context.Context, options Options) (err error) {
	archives, err := c.archives()
	if err != nil {
		return err
	}
	if c.Lab, err = lab.Start(ctx, lab.Options{Manifests: lab.None, Nodes: true, LogDir: options.LogDir, Progress: options.Progress}); err != nil {
		return err
	}
	c.atEnd(c.Lab.Stop)
	n, err := node.Start(ctx, c.Lab, node.Options{Images: archives, Progress: options.Progress})
	c.atEnd(n.Stop)
	if err != nil {
		return err
	}
	if options.WithoutBucket {
		return nil
	}
	return c.ownBucket(ctx)
}

// archives are the images that make node-images has packed; c.Images names what they hold.
func (c *Cluster) archives() ([]string, error) {
	root, err := lab.Repository()
	if err != nil {
		return nil, err
	}
	directory := filepath.Join(root, "out", "node-images")
	version, err := os.ReadFile(filepath.Join(directory, "version"))
	if err != nil {
		return nil, fmt.Errorf("no images (make node-images packs them): %w", err)
	}
	const registry = "ghcr.io/bucket-access/"
	c.Images = Images{
		Webhook: registry + "bucket-access-webhook:" + string(version), Reader: registry + "bucket-access-reader:" + string(version),
		App: "bucket-access.test/app:node",
	}
	return filepath.Glob(filepath.Join(directory, "*.tar"))
}
