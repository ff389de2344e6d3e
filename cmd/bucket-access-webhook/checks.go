package main

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

// checker looks at an installation from outside, as a client of the API server.
type checker struct {
	checkOptions
	client kubernetes.Interface
	// Of the mutating configuration, once it has been read: the webhook's own
	// namespace, and the caBundle of the entry that Pods of the check are sent to.
	own    string
	bundle []byte
}

const (
	fixInstall = "install the chart or the manifests again"
	fixBundle  = "see who writes it (certificates.mode) and what their log says: the webhook itself, cert-manager's cainjector, or you"
)

// all looks once at everything, in the order in which one thing rests on another.
func (c *checker) all(ctx context.Context) []finding {
	findings := []finding{c.mutating(ctx), c.validating(ctx), c.call(ctx)}
	answers := !findings[len(findings)-1].failed()
	for policy := range strings.SplitSeq(c.policies, ",") {
		if policy != "" && answers { // else each would wait for an answer in vain
			findings = append(findings, c.policy(ctx, policy))
		}
	}
	if c.backstops {
		for _, suffix := range []string{"pods", "serviceaccount-backstop", "running-pods"} {
			findings = append(findings, c.backstop(ctx, c.configuration+"-"+suffix))
		}
	}
	return findings
}

// mutating looks at the configuration that Pods are sent by.
func (c *checker) mutating(ctx context.Context) finding {
	f := finding{what: "MutatingWebhookConfiguration " + c.configuration}
	c.own, c.bundle = "", nil
	found, err := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, c.configuration, metav1.GetOptions{})
	if err != nil {
		return f.unread(err, "without it no Pod is sent to the webhook")
	}
	var bare []string
	excluded := false
	for i := range found.Webhooks {
		entry := &found.Webhooks[i]
		if len(entry.ClientConfig.CABundle) == 0 {
			bare = append(bare, entry.Name)
		}
		if strings.HasPrefix(entry.Name, string(admission.Pods)+".") {
			c.bundle = entry.ClientConfig.CABundle
			excluded = !c.selects(entry.NamespaceSelector)
			if entry.ClientConfig.Service != nil {
				c.own = entry.ClientConfig.Service.Namespace
			}
		}
	}
	switch {
	case c.bundle == nil && len(bare) == 0:
		f.why, f.fix = "it has no entry for Pods that carry the label", fixInstall
	case len(bare) > 0:
		f.why, f.fix = "no caBundle in "+strings.Join(bare, ", "), fixBundle
	case excluded:
		f.why = fmt.Sprintf("it leaves the namespace %s alone, so nothing can be tried there", c.namespace)
		f.fix = "give --namespace (tests.namespace of the chart) one that is neither the webhook's own nor among excludedNamespaces"
	default:
		f.what += fmt.Sprintf(", entries with a caBundle: %d", len(found.Webhooks))
	}
	return f
}

// selects tells whether an entry is for Pods of the check's namespace, as far as its
// name decides it.
func (c *checker) selects(selector *metav1.LabelSelector) bool {
	if selector == nil {
		return true
	}
	matches, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && matches.Matches(labels.Set{corev1.LabelMetadataName: c.namespace})
}

// validating looks at the configuration that policies are sent by. To call it takes the
// right to make policies, which no check should have: its caBundle is held against the
// one that the API server accepts the webhook by.
func (c *checker) validating(ctx context.Context) finding {
	f := finding{what: "ValidatingWebhookConfiguration " + c.configuration}
	found, err := c.client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, c.configuration, metav1.GetOptions{})
	if err != nil {
		return f.unread(err, "without it no policy is judged before it is stored")
	}
	var bare, other []string
	for i := range found.Webhooks {
		entry := &found.Webhooks[i]
		switch {
		case len(entry.ClientConfig.CABundle) == 0:
			bare = append(bare, entry.Name)
		case !c.trusts(entry.ClientConfig.CABundle):
			other = append(other, entry.Name)
		}
	}
	switch {
	case len(bare) > 0:
		f.why, f.fix = "no caBundle in "+strings.Join(bare, ", "), fixBundle
	case len(other) > 0:
		f.why, f.fix = "not the CA that Pods' entry has, in "+strings.Join(other, ", "), fixBundle
	case c.bundle == nil:
		f.what += fmt.Sprintf(", entries with a caBundle: %d", len(found.Webhooks))
	default:
		f.what += fmt.Sprintf(", entries with the CA that Pods' entry has: %d", len(found.Webhooks))
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
func (c *checker) trusts(bundle []byte) bool {
	var youngest *x509.Certificate
	for _, one := range certificates(c.bundle) {
		if youngest == nil || one.NotBefore.After(youngest.NotBefore) {
			youngest = one
		}
	}
	return youngest == nil || slices.ContainsFunc(certificates(bundle), youngest.Equal)
}

// backstop looks at a policy inside the API server, and that it denies.
func (c *checker) backstop(ctx context.Context, name string) finding {
	f := finding{what: "ValidatingAdmissionPolicy " + name}
	client := c.client.AdmissionregistrationV1()
	if _, err := client.ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{}); err != nil {
		return f.unread(err, "without it Pods can go past the webhook")
	}
	binding, err := client.ValidatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		f.what = "ValidatingAdmissionPolicyBinding " + name
		return f.unread(err, "without it the policy is not in force")
	}
	for _, action := range binding.Spec.ValidationActions {
		if action == admissionv1.Deny {
			f.what += ": bound, and denies"
			return f
		}
	}
	f.why, f.fix = "its binding does not deny", fixInstall
	return f
}

// unread tells why an object could not be looked at.
func (f finding) unread(err error, consequence string) finding {
	switch {
	case apierrors.IsNotFound(err):
		f.why, f.fix = "it does not exist; "+consequence, fixInstall
	case apierrors.IsForbidden(err):
		f.why, f.fix = err.Error(), "let the check read it: the chart's test has the rights that it needs"
	default:
		f.why, f.fix = err.Error(), "see that the API server answers, and try again"
	}
	return f
}

// unknownPolicy is a name that no policy has: who answers with it has read the Pod.
func unknownPolicy() string { return "bucket-access-check-" + rand.String(10) }
