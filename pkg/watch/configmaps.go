package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// liveTimeout bounds a read that several requests wait for.
const liveTimeout = 5 * time.Second

// Live reads the policies from the API server, for a request that the cached ones
// refuse for what they say of the named one; nil when those are the youngest. Callers that
// wait together share a read, but none is given one that had begun before it asked.
func (p *Policies) Live(ctx context.Context, name string) (*policy.Snapshot, error) {
	done, err := p.Cluster.wait("policies", p.Cluster.policies)
	if err != nil {
		return nil, err
	}
	defer done()
	source := "" // any: one that defines the policy may have come
	if entry, known := p.Lookup(name); known && entry.Policy != nil {
		source = entry.Source.Name
	}
	result := p.flight.DoChan(source, func() (any, error) {
		shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), liveTimeout)
		defer cancel()
		if err := p.Limit.Wait(shared); err != nil {
			p.Recorder.LiveRead("policies", metrics.Limited)
			return nil, errors.New("too many reads at once")
		}
		p.flight.Forget(source)
		snapshot, err := p.younger(shared, source)
		if err != nil {
			p.Recorder.LiveRead("policies", metrics.Failed)
			return nil, err
		}
		p.Recorder.LiveRead("policies", metrics.Succeeded)
		return snapshot, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case read := <-result:
		snapshot, _ := read.Val.(*policy.Snapshot)
		return snapshot, read.Err
	}
}

// younger compares the versions of the policy ConfigMaps with those that are in
// force, which is cheap however many policies they hold, and reads the ConfigMaps
// themselves only where they differ. Of a policy that is known its own ConfigMap is enough;
// a list is what takes time, as an API server answers it from its cache once that is in step
// with all that was written in the cluster, which it asks etcd for every 0.1 s.
func (p *Policies) younger(ctx context.Context, source string) (*policy.Snapshot, error) {
	loaded := p.loaded.Load()
	if source != "" {
		object := metadataOf("ConfigMap")
		found, err := get(ctx, p.Uncached, client.ObjectKey{Namespace: p.Namespace, Name: source}, object)
		if err != nil {
			return nil, err
		}
		if found && loaded != nil && (*loaded)[object.UID] == object.ResourceVersion {
			return nil, nil //nolint:nilnil // as Live says: there is no younger one
		}
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMapList"))
	if err := p.Uncached.List(ctx, list, client.InNamespace(p.Namespace), client.MatchingLabelsSelector{Selector: policyConfigMaps()}); err != nil {
		return nil, err
	}
	live := make(versions, len(list.Items))
	for i := range list.Items {
		live[list.Items[i].UID] = list.Items[i].ResourceVersion
	}
	if loaded != nil && maps.Equal(live, *loaded) {
		return nil, nil //nolint:nilnil // as Live says: there is no younger one
	}
	configMaps, lastGood, err := p.list(ctx, p.Uncached)
	if err != nil {
		return nil, err
	}
	return policy.Build(configMaps, p.records(lastGood), p.Store.Snapshot()), nil
}

// versions are the resourceVersions of ConfigMaps by UID.
type versions map[types.UID]string

func versionsOf(configMaps []policy.ConfigMap, lastGood *corev1.ConfigMap) *versions {
	loaded := make(versions, len(configMaps)+1)
	for _, configMap := range configMaps {
		loaded[types.UID(configMap.UID)] = strconv.FormatUint(configMap.Version, 10)
	}
	if lastGood != nil {
		loaded[lastGood.UID] = lastGood.ResourceVersion
	}
	return &loaded
}

// list reads the ConfigMaps live.
func (p *Policies) list(ctx context.Context, from client.Reader) (configMaps []policy.ConfigMap, lastGood *corev1.ConfigMap, err error) {
	var list corev1.ConfigMapList
	if err := from.List(ctx, &list, client.InNamespace(p.Namespace), client.MatchingLabelsSelector{Selector: policyConfigMaps()}); err != nil {
		return nil, nil, fmt.Errorf("listing policy ConfigMaps in namespace %s: %w", p.Namespace, err)
	}
	items := make([]*corev1.ConfigMap, len(list.Items))
	for i := range list.Items {
		items[i] = &list.Items[i]
	}
	configMaps, lastGood = p.sort(items)
	return configMaps, lastGood, nil
}

// sort returns the ConfigMaps that hold policies, and the one of last good documents.
func (p *Policies) sort(items []*corev1.ConfigMap) (configMaps []policy.ConfigMap, lastGood *corev1.ConfigMap) {
	for _, item := range items {
		switch {
		case item.Name == p.LastGoodName:
			lastGood = item
		case item.Labels[v1alpha1.LabelPolicies] == v1alpha1.PoliciesTrue:
			configMaps = append(configMaps, convert(item))
		}
	}
	return configMaps, lastGood
}

func convert(item *corev1.ConfigMap) policy.ConfigMap {
	return policy.ConfigMap{
		Namespace: item.Namespace, Name: item.Name, UID: string(item.UID), Created: item.CreationTimestamp.Time,
		Version: version(item), Data: item.Data, BinaryKeys: slices.Sorted(maps.Keys(item.BinaryData)),
	}
}

// version is the resourceVersion as a number. Kubernetes guarantees since 1.35 that
// those of one resource compare so, and every etcd-backed server before did it.
func version(item *corev1.ConfigMap) uint64 {
	number, err := strconv.ParseUint(item.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return number
}
