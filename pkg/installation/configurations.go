package installation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
)

// Installation is what is looked at, and by whom.
type Installation struct {
	Client kubernetes.Interface
	// Namespace is where Pods are tried, by server-side dry run; empty while none is chosen.
	Namespace string
	// Configuration is the name of the webhook configurations and the backstops.
	Configuration string
	// Kubectl begins the commands that are printed; empty is kubectl alone.
	Kubectl string

	// Of the mutating configuration, once it has been read: the webhook's own namespace,
	// and caBundle and namespaces of the entry that Pods are sent to.
	own      string
	bundle   []byte
	selector *metav1.LabelSelector
}

// Finding is one thing that was looked at; Why is empty when all is well with it.
type Finding struct {
	What, Why, Fix string
	// Err is the API server's, where it could not be looked at.
	Err error
	// Unclear says that the webhook may be well: something else has answered.
	Unclear bool
}

// Service is the name of the webhook's Service and Deployment.
const Service = "bucket-access-webhook"

// Failed says that something is wrong.
func (f Finding) Failed() bool { return f.Why != "" }

const (
	fixInstall = "install the chart or the manifests again"
	fixBundle  = "see who writes it (certificates.mode) and what their log says: the webhook itself, cert-manager's cainjector, or you"
)

// Backstops lists the policies inside the API server by what follows the configuration's name.
func Backstops() []string { return []string{"pods", "serviceaccount-backstop", "running-pods"} }

// Mutating looks at the configuration that Pods are sent by.
func (i *Installation) Mutating(ctx context.Context) Finding {
	f := Finding{What: "MutatingWebhookConfiguration " + i.Configuration}
	i.own, i.bundle, i.selector = "", nil, nil
	found, err := i.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, i.Configuration, metav1.GetOptions{})
	if err != nil {
		return f.unread(err, "without it no Pod is sent to the webhook")
	}
	var bare, other []string
	for n := range found.Webhooks {
		entry := &found.Webhooks[n]
		if len(entry.ClientConfig.CABundle) == 0 {
			bare = append(bare, entry.Name)
		}
		if strings.HasPrefix(entry.Name, string(admission.Pods)+".") {
			i.bundle, i.selector = entry.ClientConfig.CABundle, entry.NamespaceSelector
			if entry.ClientConfig.Service != nil {
				i.own = entry.ClientConfig.Service.Namespace
			}
		}
	}
	for n := range found.Webhooks { // only one of them is called: the others are held against it
		if entry := &found.Webhooks[n]; !i.trusts(entry.ClientConfig.CABundle) {
			other = append(other, entry.Name)
		}
	}
	switch {
	case i.bundle == nil && len(bare) == 0:
		f.Why, f.Fix = "it has no entry for Pods that carry the label", fixInstall
	case len(bare) > 0:
		f.Why, f.Fix = "no caBundle in "+strings.Join(bare, ", "), fixBundle
	case len(other) > 0:
		f.Why, f.Fix = "not the CA that Pods' entry has, in "+strings.Join(other, ", ")+": one of the two is not of the certificate that is served", fixBundle
	case i.Namespace != "" && !i.Selects(i.Namespace):
		f.Why = fmt.Sprintf("it leaves the namespace %s alone, so nothing can be tried there", i.Namespace)
		f.Fix = "give --namespace (tests.namespace of the chart) one that is neither the webhook's own nor among excludedNamespaces"
	default:
		f.What += fmt.Sprintf(", entries with a caBundle: %d", len(found.Webhooks))
	}
	return f
}

// Selects tells whether the entry for Pods is for those of a namespace, as far as its name
// decides it. It knows once Mutating has looked.
func (i *Installation) Selects(namespace string) bool {
	if i.selector == nil {
		return true
	}
	matches, err := metav1.LabelSelectorAsSelector(i.selector)
	return err == nil && matches.Matches(labels.Set{corev1.LabelMetadataName: namespace})
}

// Validating looks at the configuration that policies are sent by. To call it takes the
// right to make policies, which no check should have: its caBundle is held against the
// one that the API server accepts the webhook by.
func (i *Installation) Validating(ctx context.Context) Finding {
	f := Finding{What: "ValidatingWebhookConfiguration " + i.Configuration}
	found, err := i.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, i.Configuration, metav1.GetOptions{})
	if err != nil {
		return f.unread(err, "without it no policy is judged before it is stored")
	}
	var bare, other []string
	for n := range found.Webhooks {
		entry := &found.Webhooks[n]
		switch {
		case len(entry.ClientConfig.CABundle) == 0:
			bare = append(bare, entry.Name)
		case !i.trusts(entry.ClientConfig.CABundle):
			other = append(other, entry.Name)
		}
	}
	switch {
	case len(bare) > 0:
		f.Why, f.Fix = "no caBundle in "+strings.Join(bare, ", "), fixBundle
	case len(other) > 0:
		f.Why, f.Fix = "not the CA that Pods' entry has, in "+strings.Join(other, ", "), fixBundle
	case i.bundle == nil:
		f.What += fmt.Sprintf(", entries with a caBundle: %d", len(found.Webhooks))
	default:
		f.What += fmt.Sprintf(", entries with the CA that Pods' entry has: %d", len(found.Webhooks))
	}
	return f
}

// certificates are those of a bundle; what is none is passed over.
func certificates(bundle []byte) (all []*x509.Certificate) {
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			all = append(all, c)
		}
	}
	return all
}

// trusts tells whether a bundle has the youngest certificate of the one that Pods' entry
// has, which is the CA in use. Older ones stay for a while in some bundles, and not in others.
func (i *Installation) trusts(bundle []byte) bool {
	var youngest *x509.Certificate
	for _, one := range certificates(i.bundle) {
		if youngest == nil || one.NotBefore.After(youngest.NotBefore) {
			youngest = one
		}
	}
	return youngest == nil || slices.ContainsFunc(certificates(bundle), youngest.Equal)
}

// Backstop looks at a policy inside the API server, and that it denies.
func (i *Installation) Backstop(ctx context.Context, name string) Finding {
	f := Finding{What: "ValidatingAdmissionPolicy " + name}
	client := i.Client.AdmissionregistrationV1()
	if _, err := client.ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{}); err != nil {
		return f.unread(err, "without it Pods can go past the webhook")
	}
	binding, err := client.ValidatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		f.What = "ValidatingAdmissionPolicyBinding " + name
		return f.unread(err, "without it the policy is not in force")
	}
	for _, action := range binding.Spec.ValidationActions {
		if action == admissionv1.Deny {
			f.What += ": bound, and denies"
			return f
		}
	}
	f.Why, f.Fix = "its binding does not deny", fixInstall
	return f
}

// unread tells why an object could not be looked at.
func (f Finding) unread(err error, consequence string) Finding {
	f.Err = err
	switch {
	case apierrors.IsNotFound(err):
		f.Why, f.Fix = "it does not exist; "+consequence, fixInstall
	case apierrors.IsForbidden(err):
		f.Why, f.Fix = err.Error(), "let the check read it: the chart's test has the rights that it needs"
	default:
		f.Why, f.Fix = err.Error(), "see that the API server answers, and try again"
	}
	return f
}

// unknownPolicy is a name that no policy has: who answers with it has read the Pod.
func unknownPolicy() string { return "bucket-access-check-" + rand.String(10) }
