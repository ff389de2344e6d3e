package watch

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
)

// Cluster answers what the admission entries ask of the cluster.
type Cluster struct {
	cached client.Reader
	live   client.Reader
	limit  *rate.Limiter
	record *metrics.Recorder
	facts  atomic.Pointer[decide.Cluster]
}

// NewCluster answers from cached, and from live at most limit times a second: what
// a flood of fresh Pods can ask of the API server is bounded.
func NewCluster(cached, live client.Reader, limit *rate.Limiter, record *metrics.Recorder, facts decide.Cluster) *Cluster {
	c := &Cluster{cached: cached, live: live, limit: limit, record: record}
	c.facts.Store(&facts)
	return c
}

// Facts are what is known of the cluster itself.
func (c *Cluster) Facts() decide.Cluster { return *c.facts.Load() }

// NamespaceLabel reads a Namespace's label from the cache.
func (c *Cluster) NamespaceLabel(ctx context.Context, name string) (decide.Label, bool, error) {
	return namespaceLabel(ctx, c.cached, name)
}

// LiveNamespaceLabel reads a Namespace's label from the API server.
func (c *Cluster) LiveNamespaceLabel(ctx context.Context, name string) (label decide.Label, found bool, err error) {
	err = c.read(ctx, "namespace", func() error {
		label, found, err = namespaceLabel(ctx, c.live, name)
		return err
	})
	return label, found, err
}

// ServiceAccount reads a ServiceAccount from the cache.
func (c *Cluster) ServiceAccount(ctx context.Context, namespace, name string) (inject.ServiceAccountView, bool, error) {
	return serviceAccount(ctx, c.cached, namespace, name)
}

// LiveServiceAccount reads a ServiceAccount from the API server.
func (c *Cluster) LiveServiceAccount(
	ctx context.Context, namespace, name string,
) (account inject.ServiceAccountView, found bool, err error) {
	err = c.read(ctx, "serviceaccount", func() error {
		account, found, err = serviceAccount(ctx, c.live, namespace, name)
		return err
	})
	return account, found, err
}

// read takes a turn at the API server. It waits for one no longer than ctx lasts,
// and the number of those who wait is bounded by the requests in flight.
func (c *Cluster) read(ctx context.Context, kind string, get func() error) error {
	if err := c.limit.Wait(ctx); err != nil {
		c.record.LiveRead(kind, metrics.Limited)
		return fmt.Errorf("too many reads at once: %w", err)
	}
	if err := get(); err != nil {
		c.record.LiveRead(kind, metrics.Failed)
		return err
	}
	c.record.LiveRead(kind, metrics.Succeeded)
	return nil
}

func namespaceLabel(ctx context.Context, from client.Reader, name string) (decide.Label, bool, error) {
	object := Namespace()
	found, err := get(ctx, from, client.ObjectKey{Name: name}, object)
	return decide.LabelOf(object.Labels, v1alpha1.LabelPolicy), found, err
}

func serviceAccount(ctx context.Context, from client.Reader, namespace, name string) (inject.ServiceAccountView, bool, error) {
	object := ServiceAccount()
	found, err := get(ctx, from, client.ObjectKey{Namespace: namespace, Name: name}, object)
	if !found {
		object.Namespace, object.Name = namespace, name
	}
	return AccountView(object), found, err
}

// AccountView is what decides and is written of a ServiceAccount.
func AccountView(object *metav1.PartialObjectMetadata) inject.ServiceAccountView {
	return inject.ServiceAccountView{
		Namespace: object.Namespace, Name: object.Name, Policy: decide.LabelOf(object.Labels, v1alpha1.LabelPolicy),
		HasAnnotations: len(object.Annotations) > 0, Annotations: object.Annotations,
	}
}

func get(ctx context.Context, from client.Reader, key client.ObjectKey, into client.Object) (bool, error) {
	err := from.Get(ctx, key, into)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
