package watch

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
)

// Cluster answers what the admission entries ask of the cluster.
type Cluster struct {
	accounts   *AccountIndex
	namespaces *NamespaceIndex
	live       client.Reader
	limits     [limiters]limiter
	record     *metrics.Recorder
	facts      atomic.Pointer[decide.Cluster]
	waiting    *semaphore.Weighted // requests, for what is read live of one Namespace
	policies   *semaphore.Weighted // and for policies
	lists      *semaphore.Weighted // of Pods
}

// LiveReads bounds what is read from the API server while a request waits for it.
type LiveReads struct {
	// PerSecond is how many there may be in a second for each of the cluster's limiters.
	PerSecond float64
	// Waiting is how many requests may wait for what is read live: half of them for policies, half
	// for the rest, of these a quarter for one limiter's turn. The others fail, and come again. Whoever
	// reaches the Service can make them wait, and must leave room for who needs none, and a
	// tenant for others.
	Waiting int64
}

// limiters share the live reads among namespaces: one that floods takes its own turns
// and those of the few that fall to the same limiter, not everybody's.
const limiters = 64

// limiter is one of them: how often something is read, and how many requests wait for that.
type limiter struct {
	*rate.Limiter

	waiting *semaphore.Weighted
}

// NewCluster answers from the indexes, and from live within bounds: what a flood of fresh Pods
// can ask of the API server is bounded, there and by the client's own limit.
func NewCluster(
	accounts *AccountIndex, namespaces *NamespaceIndex, live client.Reader, bounds LiveReads, record *metrics.Recorder, facts decide.Cluster,
) *Cluster {
	c := &Cluster{
		accounts: accounts, namespaces: namespaces, live: live, record: record,
		waiting: semaphore.NewWeighted((bounds.Waiting + 1) / 2), policies: semaphore.NewWeighted((bounds.Waiting + 1) / 2), lists: semaphore.NewWeighted(podLists),
	}
	for i := range c.limits {
		c.limits[i] = limiter{
			Limiter: rate.NewLimiter(rate.Limit(bounds.PerSecond), int(2*bounds.PerSecond)+1), waiting: semaphore.NewWeighted((bounds.Waiting + 7) / 8),
		}
	}
	c.facts.Store(&facts)
	return c
}

// Facts are what is known of the cluster itself.
func (c *Cluster) Facts() decide.Cluster { return *c.facts.Load() }

// Ready says what is not known yet of the cluster: all would be read live.
func (c *Cluster) Ready() error {
	switch {
	case !c.accounts.Synced():
		return errors.New("not all ServiceAccounts have been listed yet")
	case !c.namespaces.Synced():
		return errors.New("not all Namespaces have been listed yet")
	}
	return nil
}

// NamespaceLabel is a Namespace's label as it is known; before all were listed, none is.
func (c *Cluster) NamespaceLabel(_ context.Context, name string) (decide.Label, bool, error) {
	label, found := c.namespaces.Label(name)
	return label, found, nil
}

// LiveNamespaceLabel reads a Namespace's label from the API server.
func (c *Cluster) LiveNamespaceLabel(ctx context.Context, name string) (label decide.Label, found bool, err error) {
	err = c.read(ctx, "namespace", name, func() error {
		object := Namespace()
		found, err = get(ctx, c.live, client.ObjectKey{Name: name}, object)
		label = decide.LabelOf(object.Labels, v1alpha1.LabelPolicy)
		return err
	})
	return label, found, err
}

// ServiceAccount is a ServiceAccount as it is known; before all were listed, none is.
func (c *Cluster) ServiceAccount(_ context.Context, namespace, name string) (inject.ServiceAccountView, bool, error) {
	view, found := c.accounts.View(namespace, name)
	return view, found, nil
}

// LiveServiceAccount reads a ServiceAccount from the API server.
func (c *Cluster) LiveServiceAccount(
	ctx context.Context, namespace, name string,
) (account inject.ServiceAccountView, found bool, err error) {
	err = c.read(ctx, "serviceaccount", namespace, func() error {
		object := ServiceAccount()
		found, err = get(ctx, c.live, client.ObjectKey{Namespace: namespace, Name: name}, object)
		object.Namespace, object.Name = namespace, name
		account = AccountView(object)
		return err
	})
	return account, found, err
}

// mostPods is the number up to which Pods are counted where the API server is asked for them,
// and podLists how many such lists are read at once: they are large, and whoever reaches the
// Service can ask for them. More than that do without a number.
const (
	mostPods = 500
	podLists = 2
)

var errPodLists = errors.New("too many lists of Pods at once")

// PodsWithout counts the Pods of a ServiceAccount, or of a whole Namespace that no ServiceAccount
// speaks for, that have not ended, ask for nothing themselves and are not injected with the policy.
// The index can't tell: metadata names no ServiceAccount, and its news may wait.
func (c *Cluster) PodsWithout(ctx context.Context, namespace, serviceAccount, policy string) (pods int, more bool, err error) {
	without, err := labels.Parse("!" + v1alpha1.LabelPolicy + "," + v1alpha1.LabelInjected + "!=" + policy)
	if err != nil {
		return 0, false, fmt.Errorf("policy %q is no label value: %w", policy, err)
	}
	among := alive()
	if serviceAccount == "" {
		marked, err := labels.NewRequirement(v1alpha1.LabelServiceAccountPolicy, selection.DoesNotExist, nil)
		if err != nil {
			return 0, false, err
		}
		without = without.Add(*marked)
	} else {
		among = fields.AndSelectors(among, fields.OneTermEqualSelector("spec.serviceAccountName", serviceAccount))
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err = c.read(ctx, "pods", namespace, func() error {
		if !c.lists.TryAcquire(1) { // not before its turn has come: others' may
			return errPodLists
		}
		defer c.lists.Release(1)
		return c.live.List(ctx, list, client.InNamespace(namespace), client.Limit(mostPods), client.MatchingLabelsSelector{Selector: without},
			client.MatchingFieldsSelector{Selector: among})
	})
	for i := range list.Items {
		if class, counts := classOf(&list.Items[i]); counts && (serviceAccount != "" || class.implied()) {
			pods++
		}
	}
	return pods, list.Continue != "", err
}

var errWaiting = errors.New("too many requests wait for the API server")

// wait has a request wait for something that is read live, if not too many do.
func (c *Cluster) wait(kind string, room *semaphore.Weighted) (done func(), err error) {
	if !room.TryAcquire(1) {
		c.record.LiveRead(kind, metrics.Limited)
		return nil, errWaiting
	}
	return func() { room.Release(1) }, nil
}

// read takes a turn of the namespace at the API server. It waits for one no longer than ctx lasts.
func (c *Cluster) read(ctx context.Context, kind, namespace string, get func() error) error {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(namespace)) // a hash never fails
	limit := &c.limits[hash.Sum32()%limiters]
	for _, room := range []*semaphore.Weighted{limit.waiting, c.waiting} {
		done, err := c.wait(kind, room)
		if err != nil {
			return err
		}
		defer done()
	}
	if err := limit.Wait(ctx); err != nil {
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
