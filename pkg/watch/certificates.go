package watch

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// CertificateKinds are watched for the serving certificate, their metadata alone: an
// event is reason enough to look.
func CertificateKinds(secret bool) []client.Object {
	kinds := []schema.GroupVersionKind{
		admissionv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"),
		admissionv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"),
	}
	if secret {
		kinds = append(kinds, corev1.SchemeGroupVersion.WithKind("Secret"))
	}
	objects := make([]client.Object, len(kinds))
	for i, kind := range kinds {
		object := &metav1.PartialObjectMetadata{}
		object.SetGroupVersionKind(kind)
		objects[i] = object
	}
	return objects
}

// CertificateObjects restrict those watches to one name, which is all that RBAC grants.
func CertificateObjects(namespace, secret, configuration string) map[client.Object]cache.ByObject {
	named := func(name string) fields.Selector { return fields.OneTermEqualSelector(metav1.ObjectNameField, name) }
	kinds := CertificateKinds(true)
	return map[client.Object]cache.ByObject{
		kinds[0]: {Field: named(configuration)},
		kinds[1]: {Field: named(configuration)},
		kinds[2]: {Namespaces: map[string]cache.Config{namespace: {FieldSelector: named(secret)}}},
	}
}
