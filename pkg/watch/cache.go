package watch

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// ServiceAccount makes the metadata-only object that is cached.
func ServiceAccount() *metav1.PartialObjectMetadata { return metadataOf("ServiceAccount") }

// Namespace makes the metadata-only object that is cached.
func Namespace() *metav1.PartialObjectMetadata { return metadataOf("Namespace") }

func metadataOf(kind string) *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return object
}

// policyConfigMaps selects the ConfigMaps that hold policies or last good documents.
func policyConfigMaps() labels.Selector {
	requirement, err := labels.NewRequirement(v1alpha1.LabelPolicies, selection.In,
		[]string{v1alpha1.PoliciesTrue, v1alpha1.PoliciesLastGood})
	if err != nil {
		panic("watch: a constant selector: " + err.Error())
	}
	return labels.NewSelector().Add(*requirement)
}

// CacheOptions bound what the manager's cache holds: policy ConfigMaps of the
// webhook's namespace, and of Namespaces and ServiceAccounts what decides.
// Nothing that is read from it may be changed: it is not copied.
func CacheOptions(namespace string) cache.Options {
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&corev1.ConfigMap{}: {
				Namespaces: map[string]cache.Config{namespace: {}}, Label: policyConfigMaps(), UnsafeDisableDeepCopy: ptr.To(true),
				Transform: cache.TransformStripManagedFields(),
			},
			ServiceAccount(): {Transform: keepOnly, UnsafeDisableDeepCopy: ptr.To(true)},
			Namespace():      {Transform: keepOnly, UnsafeDisableDeepCopy: ptr.To(true)},
		},
	}
}

// keepOnly drops all of an object's metadata that nothing asks for, so that a
// cluster's many ServiceAccounts cost little.
func keepOnly(in any) (any, error) {
	object, ok := in.(*metav1.PartialObjectMetadata)
	if !ok {
		return nil, fmt.Errorf("watch: cannot trim a %T", in)
	}
	annotations := append(inject.AccountAnnotations(), v1alpha1.AnnotationManaged)
	object.ObjectMeta = metav1.ObjectMeta{
		Name: object.Name, Namespace: object.Namespace, UID: object.UID, ResourceVersion: object.ResourceVersion,
		Labels:      filter(object.Labels, v1alpha1.LabelPolicy),
		Annotations: filter(object.Annotations, annotations...),
	}
	return object, nil
}

func filter(all map[string]string, keys ...string) map[string]string {
	var kept map[string]string
	for key, value := range all {
		if slices.Contains(keys, key) {
			if kept == nil {
				kept = make(map[string]string, 1)
			}
			kept[key] = value
		}
	}
	return kept
}

// Warm makes the cache hold Namespaces and ServiceAccounts from its start, so that
// the first request does not wait for them. Call it before the cache starts.
func Warm(ctx context.Context, informers cache.Informers) error {
	for _, object := range []client.Object{&corev1.ConfigMap{}, ServiceAccount(), Namespace()} {
		if _, err := informers.GetInformer(ctx, object); err != nil {
			return fmt.Errorf("watching %s: %w", object.GetObjectKind().GroupVersionKind().Kind, err)
		}
	}
	return nil
}
