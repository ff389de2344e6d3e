package status

import (
	"context"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// Source is where facts are read from.
type Source struct {
	Client client.Reader
	// Own is the webhook's own namespace, Configuration the name of its webhook configurations.
	Own, Configuration string
	// REST reads the cluster's token issuer; nil leaves it unknown.
	REST rest.Interface
	// Namespace limits Pods and ServiceAccounts to one; empty is all.
	Namespace string
	// Kubectl makes the commands that mend.
	Kubectl Kubectl
}

// NoRight begins what Unread says of a right.
const NoRight = "no right to "

// Rights that are named where one is missing.
const (
	listAccounts = "list serviceaccounts"
	ListPods     = "list pods"
)

// page bounds what is held of one list at once.
const page = 500

// Read reads one list of each kind. Policies must be readable; what else may not be
// read is left out, and named in Unread.
func (s *Source) Read(ctx context.Context) (*Facts, error) {
	f := &Facts{Namespaces: map[string]decide.Label{}, Accounts: map[types.NamespacedName]inject.ServiceAccountView{}, Kubectl: s.Kubectl}
	var err error
	if f.Policies, err = watch.Read(ctx, s.Client, s.Own, watch.LastGoodName); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		right string
		read  func(context.Context, *Facts) error
	}{
		{"get /.well-known/openid-configuration", s.issuer},
		{"get mutatingwebhookconfigurations/" + s.Configuration, s.excluded},
		{"list namespaces", s.namespaces},
		{listAccounts, s.accounts},
		{ListPods, s.pods},
	} {
		switch err := part.read(ctx, f); {
		case apierrors.IsForbidden(err):
			f.Unread = append(f.Unread, NoRight+part.right)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", part.right, err)
		}
	}
	return f, nil
}

func (s *Source) issuer(ctx context.Context, f *Facts) (err error) {
	if s.REST != nil {
		f.Cluster.Issuer, err = watch.ReadIssuer(ctx, s.REST)
	}
	return err
}

// excluded reads which namespaces the webhook leaves alone.
func (s *Source) excluded(ctx context.Context, f *Facts) error {
	f.Excluded = []string{metav1.NamespaceSystem, corev1.NamespaceNodeLease, s.Own}
	var found admissionv1.MutatingWebhookConfiguration
	if err := s.Client.Get(ctx, client.ObjectKey{Name: s.Configuration}, &found); err != nil {
		return client.IgnoreNotFound(err)
	}
	for i := range found.Webhooks {
		entry := &found.Webhooks[i]
		if entry.Name != string(admission.Pods)+"."+v1alpha1.Group || entry.NamespaceSelector == nil {
			continue
		}
		for _, requirement := range entry.NamespaceSelector.MatchExpressions {
			if requirement.Key == corev1.LabelMetadataName && requirement.Operator == metav1.LabelSelectorOpNotIn {
				f.Excluded = requirement.Values
			}
		}
	}
	return nil
}

func (s *Source) namespaces(ctx context.Context, f *Facts) error {
	if s.Namespace != "" {
		object := watch.Namespace()
		if err := s.Client.Get(ctx, client.ObjectKey{Name: s.Namespace}, object); err != nil {
			return err
		}
		f.Namespaces[object.Name] = decide.LabelOf(object.Labels, v1alpha1.LabelPolicy)
		return nil
	}
	return s.metadata(ctx, "Namespace", func(item *metav1.PartialObjectMetadata) {
		f.Namespaces[item.Name] = decide.LabelOf(item.Labels, v1alpha1.LabelPolicy)
	})
}

func (s *Source) accounts(ctx context.Context, f *Facts) error {
	return s.metadata(ctx, "ServiceAccount", func(item *metav1.PartialObjectMetadata) {
		f.Accounts[client.ObjectKeyFromObject(item)] = watch.AccountView(item)
	})
}

// metadata lists only what stands in metadata, page by page.
func (s *Source) metadata(ctx context.Context, kind string, each func(*metav1.PartialObjectMetadata)) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind + "List"))
	return s.pages(ctx, list, func() {
		for i := range list.Items {
			each(&list.Items[i])
		}
	})
}

func (s *Source) pages(ctx context.Context, list client.ObjectList, each func()) error {
	for {
		options := []client.ListOption{client.InNamespace(s.Namespace), client.Limit(page), client.Continue(list.GetContinue())}
		if err := s.Client.List(ctx, list, options...); err != nil {
			return err
		}
		each()
		if list.GetContinue() == "" {
			return nil
		}
	}
}

// pods needs each Pod's ServiceAccount, which is not in its metadata.
func (s *Source) pods(ctx context.Context, f *Facts) error {
	list := &corev1.PodList{}
	return s.pages(ctx, list, func() {
		f.Pods = slices.Grow(f.Pods, len(list.Items))
		for i := range list.Items {
			if p := &list.Items[i]; p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				f.Pods = append(f.Pods, PodOf(p))
			}
		}
		list.Items = nil // a new page is not decoded into the old one's leftovers
	})
}

// PodOf keeps what is needed of a Pod.
func PodOf(p *corev1.Pod) Pod {
	kept := Pod{
		Namespace: p.Namespace, Name: p.Name, ServiceAccount: p.Spec.ServiceAccountName,
		OnPod: decide.LabelOf(p.Labels, v1alpha1.LabelPolicy), Injected: decide.LabelOf(p.Labels, v1alpha1.LabelInjected),
		Debugged: len(p.Spec.EphemeralContainers) > 0,
	}
	_, kept.MirrorPod = p.Annotations[corev1.MirrorPodAnnotationKey]
	var kind, name string
	if controller := metav1.GetControllerOf(p); controller != nil {
		kind, name = controller.Kind, controller.Name
	}
	kept.Owner = owner(kind, name, p.Name, p.Labels)
	if record, is := inject.ParseStatus(p.Annotations[v1alpha1.AnnotationStatus]); is {
		kept.Hash, kept.Carried = record.Hash, carried(record)
	}
	return kept
}
