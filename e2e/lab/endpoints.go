package lab

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// mirrorEndpoints puts what the EndpointSlices say into the Service's Endpoints: an older
// API server, 1.30 among them, finds by those whom to call.
func (l *Lab) mirrorEndpoints(ctx context.Context) error {
	if l.Version == nil || l.MarksPods() {
		return nil
	}
	l.endpoints.Lock() // each replica tells of itself
	defer l.endpoints.Unlock()
	var slices discoveryv1.EndpointSliceList
	if err := l.Client.List(ctx, &slices, client.InNamespace(Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: Name}); err != nil {
		return err
	}
	mirror := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: Name}} //nolint:staticcheck // see above
	_, err := controllerutil.CreateOrUpdate(ctx, l.Client, mirror, func() error {
		mirror.Subsets = nil
		for i := range slices.Items {
			mirror.Subsets = append(mirror.Subsets, subset(&slices.Items[i]))
		}
		return nil
	})
	return err
}

// subset is a replica's part of the Endpoints.
func subset(slice *discoveryv1.EndpointSlice) corev1.EndpointSubset { //nolint:staticcheck // as its caller
	var s corev1.EndpointSubset //nolint:staticcheck // as its caller
	for _, port := range slice.Ports {
		s.Ports = append(s.Ports, corev1.EndpointPort{Name: *port.Name, Port: *port.Port, Protocol: *port.Protocol})
	}
	for _, endpoint := range slice.Endpoints {
		address := corev1.EndpointAddress{IP: endpoint.Addresses[0]}
		if *endpoint.Conditions.Ready {
			s.Addresses = append(s.Addresses, address)
		} else {
			s.NotReadyAddresses = append(s.NotReadyAddresses, address)
		}
	}
	return s
}
