package watch

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// ServiceAccount makes an object of metadata alone.
func ServiceAccount() *metav1.PartialObjectMetadata { return metadataOf("ServiceAccount") }

// Namespace makes an object of metadata alone.
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

// CacheOptions bound what the manager's cache holds: policy ConfigMaps of the webhook's
// namespace. Of Namespaces, ServiceAccounts and Pods there are indexes.
// Nothing that is read from it may be changed: it is not copied.
func CacheOptions(namespace string) cache.Options {
	return cache.Options{
		ByObject: map[client.Object]cache.ByObject{
			&corev1.ConfigMap{}: {
				Namespaces: map[string]cache.Config{namespace: {}}, Label: policyConfigMaps(), UnsafeDisableDeepCopy: ptr.To(true),
				Transform: cache.TransformStripManagedFields(),
			},
		},
	}
}

// Warm makes the cache hold policies from its start, so that they are there when their
// controller begins. Call it before the cache starts.
func Warm(ctx context.Context, informers cache.Informers) error {
	if _, err := informers.GetInformer(ctx, &corev1.ConfigMap{}); err != nil {
		return fmt.Errorf("watching ConfigMaps: %w", err)
	}
	return nil
}
