package watch

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// accountsPage is the number of whole Pods that are read at once.
const accountsPage = 100

// alive selects the Pods that have not ended: to a watch, a Pod that ends is one that goes.
func alive() fields.Selector {
	return fields.AndSelectors(
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
		fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)))
}

// PodAccounts reads the ServiceAccounts of the Pods of a Namespace into the index, page by
// page. Metadata does not name them.
func PodAccounts(ctx context.Context, clients kubernetes.Interface, namespace string, index *PodIndex) error {
	options := metav1.ListOptions{FieldSelector: alive().String(), Limit: accountsPage}
	for {
		list, err := clients.CoreV1().Pods(namespace).List(ctx, options)
		if err != nil {
			return fmt.Errorf("reading the ServiceAccounts of Pods: %w", err)
		}
		accounts := make(map[string]string, len(list.Items))
		for i := range list.Items {
			accounts[list.Items[i].Name] = list.Items[i].Spec.ServiceAccountName
		}
		index.Learn(namespace, accounts)
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}
