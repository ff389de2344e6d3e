package main

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// call has the API server send a Pod to the webhook that asks for what does not exist.
// Only the webhook refuses it so, and only by having read it.
func (c *checker) call(ctx context.Context) finding {
	f := finding{what: "a Pod of namespace " + c.namespace + " is sent to the webhook, which answers"}
	asked := unknownPolicy()
	_, err := c.try(ctx, asked)
	switch {
	case err == nil:
		f.why = "it was let through though it asks for a policy that does not exist: the API server did not call the webhook, or no replica answered"
		f.fix = "see that the webhook configuration is there and complete, and that no failurePolicy is Ignore; " + c.lookAtReplicas()
	case refused(err) && strings.Contains(err.Error(), fmt.Sprintf("%q, which does not exist", asked)):
	case refused(err):
		f.why, f.fix = "the webhook answered, but not to what was asked: "+err.Error(), "see that the replicas and this check are of one version; "+c.lookAtReplicas()
	default:
		f.why, f.fix = c.unanswered(err)
	}
	return f
}

// policy has a Pod ask for a policy: it is injected, or refused as one that the policy
// does not list, which only a policy that is in force can tell.
func (c *checker) policy(ctx context.Context, name string) finding {
	f := finding{what: "policy " + name + " is in force"}
	pod, err := c.try(ctx, name)
	switch {
	case err == nil && pod.Labels[v1alpha1.LabelInjected] == name:
	case err == nil:
		f.why, f.fix = "a Pod that asks for it came back without it: the API server did not call the webhook, or no replica answered", c.lookAtReplicas()
	case refused(err) && strings.Contains(err.Error(), fmt.Sprintf("policy %q does not list", name)):
	case refused(err):
		f.why = err.Error()
		f.fix = "correct the policy: kubectl -n " + c.ownNamespace() + " get events names its ConfigMap, path and error"
	default:
		f.why, f.fix = c.unanswered(err)
	}
	return f
}

// refused tells whether the entry for labelled Pods itself has said no.
func refused(err error) bool {
	return strings.Contains(err.Error(), `admission webhook "`+string(admission.Pods)+`.bucket-access.io" denied the request`)
}

// unanswered explains an error that is not the webhook's own refusal.
func (c *checker) unanswered(err error) (why, fix string) {
	said := err.Error()
	has := func(text string) bool { return strings.Contains(said, text) }
	switch {
	case has("failed calling webhook") && has("x509:"):
		return "the API server does not trust the webhook's certificate: " + said, "the caBundle is not of the CA that the replicas' certificate is of; " + fixBundle
	case has("failed calling webhook") && (has("no endpoints available") || has("connection refused")):
		return "no replica answers: " + said, c.lookAtReplicas()
	case has("failed calling webhook"):
		return "the API server can't reach the webhook: " + said,
			"see the way from the API server to the replicas (a NetworkPolicy, a firewall, a custom CNI: hostNetwork); " + c.lookAtReplicas()
	case has("ValidatingAdmissionPolicy '" + c.configuration):
		return "the API server did not call the webhook, and a backstop refused the Pod: " + said,
			"see that the webhook configuration is there and complete; " + c.lookAtReplicas()
	case apierrors.IsForbidden(err) && has("cannot create resource"):
		return said, "let the check create Pods in that namespace: the chart's test has the right to, in tests.namespace"
	case apierrors.IsNotFound(err):
		return said, "give --namespace (tests.namespace of the chart) a namespace that exists"
	}
	return "something else stands in the way: " + said, "the message names what refuses the Pod before the webhook is asked; try another --namespace"
}

func (c *checker) lookAtReplicas() string {
	return "see that replicas run and are ready: kubectl -n " + c.ownNamespace() + " get pods,endpointslices, and their logs"
}

func (c *checker) ownNamespace() string {
	if c.own == "" {
		return "bucket-access-system"
	}
	return c.own
}

// try creates a Pod that asks for a policy, by dry run. It passes the level restricted
// and quotas, so that nothing but the label is a reason to refuse it.
func (c *checker) try(ctx context.Context, policy string) (*corev1.Pod, error) {
	small := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("1Mi")}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bucket-access-check-", Labels: map[string]string{v1alpha1.LabelPolicy: policy}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: ptr.To(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(65532)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "check", Image: "bucket-access-check", Resources: corev1.ResourceRequirements{Requests: small, Limits: small},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	return c.client.CoreV1().Pods(c.namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}
