package watch

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

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
