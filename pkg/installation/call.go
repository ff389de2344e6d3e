package installation

import (
	"cmp"
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

// Call has the API server send a Pod to the webhook that asks for what does not exist.
// Only the webhook refuses it so, and only by having read it.
func (i *Installation) Call(ctx context.Context) Finding {
	f := Finding{What: "a Pod of namespace " + i.Namespace + " is sent to the webhook, which answers"}
	asked := unknownPolicy()
	_, err := i.try(ctx, asked)
	f.Err = err
	switch {
	case err == nil:
		f.Why = "it was let through though it asks for a policy that does not exist: the API server did not call the webhook, or no replica answered"
		f.Fix = "see that the webhook configuration is there and complete, and that no failurePolicy is Ignore; " + i.lookAtReplicas()
	case refused(err) && strings.Contains(err.Error(), fmt.Sprintf("%q, which does not exist", asked)):
		f.Err = nil
	case refused(err):
		f.Why, f.Fix = "the webhook answered, but not to what was asked: "+err.Error(), "see that the replicas and this check are of one version; "+i.lookAtReplicas()
	default:
		f.Why, f.Fix = i.unanswered(err)
		f.Unclear = strings.HasPrefix(f.Why, somethingElse)
	}
	return f
}

// somethingElse begins what is said of an error that is not about the webhook.
const somethingElse = "something else stands in the way: "

// Policy has a Pod ask for a policy: it is injected, or refused as one that the policy
// does not list, which only a policy that is in force can tell.
func (i *Installation) Policy(ctx context.Context, name string) Finding {
	f := Finding{What: "policy " + name + " is in force"}
	pod, err := i.try(ctx, name)
	switch {
	case err == nil && pod.Labels[v1alpha1.LabelInjected] == name:
	case err == nil:
		f.Why, f.Fix = "a Pod that asks for it came back without it: the API server did not call the webhook, or no replica answered", i.lookAtReplicas()
	case refused(err) && strings.Contains(err.Error(), fmt.Sprintf("policy %q does not list", name)):
	case refused(err):
		f.Why = err.Error()
		f.Fix = "correct the policy: " + i.kubectl() + " get events names its ConfigMap, path and error"
	default:
		f.Why, f.Fix = i.unanswered(err)
	}
	return f
}

// refused tells whether the entry for labelled Pods itself has said no.
func refused(err error) bool {
	return strings.Contains(err.Error(), `admission webhook "`+string(admission.Pods)+`.bucket-access.io" denied the request`)
}

// unanswered explains an error that is not the webhook's own refusal.
func (i *Installation) unanswered(err error) (why, fix string) {
	said := err.Error()
	has := func(text string) bool { return strings.Contains(said, text) }
	switch {
	case has("failed calling webhook") && has("x509:"):
		return "the API server does not trust the webhook's certificate: " + said, "the caBundle is not of the CA that the replicas' certificate is of; " + fixBundle
	case has("failed calling webhook") && (has("no endpoints available") || has("connection refused")):
		return "no replica answers: " + said, i.lookAtReplicas()
	case has("failed calling webhook"):
		return "the API server can't reach the webhook: " + said,
			"see the way from the API server to the replicas (a NetworkPolicy, a firewall, a custom CNI: hostNetwork); " + i.lookAtReplicas()
	case has("ValidatingAdmissionPolicy '" + i.Configuration):
		return "the API server did not call the webhook, and a backstop refused the Pod: " + said,
			"see that the webhook configuration is there and complete; " + i.lookAtReplicas()
	case apierrors.IsForbidden(err) && has("cannot create resource"):
		return said, "let the check create Pods in that namespace: the chart's test has the right to, in tests.namespace"
	case apierrors.IsNotFound(err):
		return said, "give --namespace (tests.namespace of the chart) a namespace that exists"
	}
	return somethingElse + said, "the message names what refuses the Pod before the webhook is asked; try another --namespace"
}

func (i *Installation) lookAtReplicas() string {
	return "see that replicas run and are ready: " + i.kubectl() + " get pods,endpointslices, and their logs"
}

// kubectl begins a command in the webhook's own namespace.
func (i *Installation) kubectl() string { return cmp.Or(i.Kubectl, "kubectl") + " -n " + i.Own() }

// Own is the webhook's own namespace, as the mutating configuration names it.
func (i *Installation) Own() string {
	if i.own == "" {
		return "bucket-access-system"
	}
	return i.own
}

// try creates a Pod that asks for a policy, by dry run. It passes the level restricted
// and quotas, so that nothing but the label is a reason to refuse it.
func (i *Installation) try(ctx context.Context, policy string) (*corev1.Pod, error) {
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
	return i.Client.CoreV1().Pods(i.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}
