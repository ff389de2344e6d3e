package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/installation"
)

// oldestMinor is that of the first Kubernetes with matchConditions and ValidatingAdmissionPolicies,
// markingMinor that of the first with MutatingAdmissionPolicies.
const (
	oldestMinor  = 30
	markingMinor = 36
)

func (d *Doctor) server(context.Context) result {
	var err error
	d.kubernetes, err = d.Clients.Discovery().ServerVersion()
	d.answered = err == nil
	if err != nil {
		return failed("the API server does not answer: "+err.Error(),
			"see the kubeconfig's context, its credentials, and the way to the cluster", "").looking(d.Kubectl.Command("cluster-info"))
	}
	if older(d.kubernetes, oldestMinor) {
		return failed("the API server is Kubernetes "+d.kubernetes.GitVersion+", the webhook needs 1.30 or newer", "upgrade the cluster", "")
	}
	return fine("Kubernetes %s; plugin %s", d.kubernetes.GitVersion, d.Version)
}

// older tells whether an API server is older than Kubernetes 1.minor.
func older(server *version.Info, minor int) bool {
	its, err := strconv.Atoi(strings.TrimRight(server.Minor, "+"))
	return err == nil && server.Major == "1" && its < minor
}

// waitsForMarks tells whether Pods of labelled ServiceAccounts are sent only once the API
// server has marked them.
func waitsForMarks(webhooks []admissionv1.MutatingWebhook) bool {
	return slices.ContainsFunc(webhooks, func(w admissionv1.MutatingWebhook) bool {
		return w.ObjectSelector != nil && slices.ContainsFunc(w.ObjectSelector.MatchExpressions, func(r metav1.LabelSelectorRequirement) bool {
			return r.Key == v1alpha1.LabelServiceAccountPolicy && r.Operator == metav1.LabelSelectorOpExists
		})
	})
}

// configurations holds them against what is installed.
func (d *Doctor) configurations(ctx context.Context) result {
	mutating := d.installation.Mutating(ctx)
	if mutating.Failed() {
		return d.finding(mutating, "get mutatingwebhookconfigurations/"+d.Configuration)
	}
	var found admissionv1.MutatingWebhookConfiguration
	if err := d.Client.Get(ctx, client.ObjectKey{Name: d.Configuration}, &found); err != nil {
		return unread(err, "get mutatingwebhookconfigurations/"+d.Configuration)
	}
	names := map[string]bool{}
	for i := range found.Webhooks {
		names[found.Webhooks[i].Name] = true
	}
	if missing := lacking(names, "/mutate/"); missing != "" {
		return failed("MutatingWebhookConfiguration "+d.Configuration+" lacks the entries "+missing, "install the chart or the manifests again", "")
	}
	if older(d.kubernetes, markingMinor) && waitsForMarks(found.Webhooks) {
		return failed("MutatingWebhookConfiguration "+d.Configuration+" is for Kubernetes 1.36 and newer, "+
			"where the API server marks Pods of labelled ServiceAccounts; this is "+d.kubernetes.GitVersion+", and refuses them",
			"install the chart with serviceAccountPods.mode empty or Webhook, or manifests/older-kubernetes", "")
	}
	if validating := d.installation.Validating(ctx); validating.Failed() {
		return d.finding(validating, "get validatingwebhookconfigurations/"+d.Configuration)
	}
	var judging admissionv1.ValidatingWebhookConfiguration
	if err := d.Client.Get(ctx, client.ObjectKey{Name: d.Configuration}, &judging); err != nil {
		return unread(err, "get validatingwebhookconfigurations/"+d.Configuration)
	}
	for i := range judging.Webhooks {
		names[judging.Webhooks[i].Name] = true
	}
	if missing := lacking(names, "/validate/"); missing != "" {
		return failed("ValidatingWebhookConfiguration "+d.Configuration+" lacks the entries "+missing, "install the chart or the manifests again", "")
	}
	return fine("%d entries that change Pods and ServiceAccounts, %d that judge and warn, all with a caBundle", len(found.Webhooks), len(judging.Webhooks))
}

// lacking names the entries below a path that are not among the names.
func lacking(names map[string]bool, path string) string {
	var missing []string
	for _, entry := range admission.Entries() {
		if strings.HasPrefix(entry.Path(), path) && !names[string(entry)+"."+v1alpha1.Group] {
			missing = append(missing, string(entry))
		}
	}
	return strings.Join(missing, ", ")
}

// finding is what an installation's check says.
func (d *Doctor) finding(f installation.Finding, right string) result {
	if apierrors.IsForbidden(f.Err) || apierrors.IsUnauthorized(f.Err) {
		return unread(f.Err, right)
	}
	return failed(f.What+": "+f.Why, f.Fix, "")
}

// replicas counts the endpoints that the API server may call.
func (d *Doctor) replicas(ctx context.Context) result {
	var slices discoveryv1.EndpointSliceList
	err := d.Client.List(ctx, &slices, client.InNamespace(d.Own), client.MatchingLabels{discoveryv1.LabelServiceName: installation.Service})
	if err != nil {
		return unread(err, "list endpointslices in namespace "+d.Own)
	}
	ready, known := 0, 0
	for i := range slices.Items {
		for _, endpoint := range slices.Items[i].Endpoints {
			known++
			if ptr.Deref(endpoint.Conditions.Ready, true) {
				ready++
			}
		}
	}
	var deployment appsv1.Deployment
	scale := ""
	if d.Client.Get(ctx, client.ObjectKey{Namespace: d.Own, Name: installation.Service}, &deployment) == nil {
		if wanted := int(ptr.Deref(deployment.Spec.Replicas, 1)); wanted > 0 {
			known = max(known, wanted)
		} else {
			scale = d.Kubectl.In(d.Own, "scale deployment", installation.Service, "--replicas=2")
		}
	}
	look := d.Kubectl.In(d.Own, "get pods,events,endpointslices")
	switch {
	case ready == 0 && scale != "":
		return failed("no replica is ready: the Deployment is scaled to 0", "scale it up", scale)
	case ready == 0:
		return failed("no replica is ready, so labelled Pods are refused", "see why: its Pods, their Events and logs", "").looking(look)
	case ready < known:
		return warned(fmt.Sprintf("%d of %d replicas are ready", ready, known), "see what keeps the others from it", "").looking(look)
	}
	return fine("%d ready", ready)
}

// choose finds a namespace in which a Pod can be tried: the target's, unless the webhook
// leaves that alone; else default, else the first other one.
func (d *Doctor) choose(ctx context.Context) string {
	never := []string{"", metav1.NamespaceSystem, corev1.NamespaceNodeLease, d.Own} // also where the configuration can't be read
	fits := func(namespace string) bool {
		return !slices.Contains(never, namespace) && d.installation.Selects(namespace)
	}
	for _, namespace := range []string{d.Target.Namespace, metav1.NamespaceDefault} {
		if fits(namespace) {
			return namespace
		}
	}
	var all corev1.NamespaceList
	if d.Client.List(ctx, &all) != nil {
		return ""
	}
	for i := range all.Items {
		if namespace := &all.Items[i]; namespace.DeletionTimestamp == nil && fits(namespace.Name) && !strings.HasPrefix(namespace.Name, "kube-") {
			return namespace.Name
		}
	}
	return ""
}

// call has the API server itself judge the certificate that is served, by the caBundle.
func (d *Doctor) call(ctx context.Context) result {
	if d.installation.Namespace = d.choose(ctx); d.installation.Namespace == "" {
		return skipped("no namespace is known in which a Pod can be tried: the webhook leaves %s alone, and default too; give -n another", d.Target.Namespace)
	}
	f := d.installation.Call(ctx)
	switch {
	case !f.Failed():
		return fine("a Pod of namespace %s, tried by dry run, was sent and answered", d.installation.Namespace)
	case apierrors.IsForbidden(f.Err) && strings.Contains(f.Err.Error(), "cannot create resource"):
		return skipped("no right to create pods in namespace %s (by server-side dry run; nothing is stored)", d.installation.Namespace)
	case f.Unclear:
		return warned(f.Why, f.Fix, "")
	}
	return failed(f.Why, f.Fix, "")
}

func (d *Doctor) backstops(ctx context.Context) result {
	for _, suffix := range installation.Backstops() {
		f := d.installation.Backstop(ctx, d.Configuration+"-"+suffix)
		switch {
		case apierrors.IsForbidden(f.Err):
			return unread(f.Err, "get validatingadmissionpolicies and validatingadmissionpolicybindings")
		case f.Failed():
			return warned(f.What+": "+f.Why, "install the chart or the manifests again, with backstops.enabled", "")
		}
	}
	return fine("%d ValidatingAdmissionPolicies refuse what was not injected", len(installation.Backstops()))
}

// eksWebhook is the name of EKS's own configuration, on every EKS cluster.
const eksWebhook = "pod-identity-webhook"

// order looks at EKS's own webhook beside ours, and that both are called again after
// others have changed a Pod.
func (d *Doctor) order(ctx context.Context) result {
	var ours, eks admissionv1.MutatingWebhookConfiguration
	if err := d.Client.Get(ctx, client.ObjectKey{Name: d.Configuration}, &ours); err != nil {
		return unread(err, "get mutatingwebhookconfigurations/"+d.Configuration)
	}
	for i := range ours.Webhooks {
		if w := &ours.Webhooks[i]; ptr.Deref(w.ReinvocationPolicy, admissionv1.NeverReinvocationPolicy) != admissionv1.IfNeededReinvocationPolicy {
			return warned("the entry "+w.Name+" is not called again for containers that later webhooks add",
				"set its reinvocationPolicy to IfNeeded", d.reinvoke(i))
		}
	}
	switch err := d.Client.Get(ctx, client.ObjectKey{Name: eksWebhook}, &eks); {
	case apierrors.IsNotFound(err):
		return fine("called again where needed; EKS's own webhook (%s) is not here", eksWebhook)
	case err != nil:
		return unread(err, "get mutatingwebhookconfigurations/"+eksWebhook)
	case d.Configuration > eksWebhook:
		return warned(d.Configuration+" sorts behind "+eksWebhook+", so EKS's own webhook runs first; the result is the same",
			"name the configuration so that it sorts before", "")
	}
	for i := range eks.Webhooks {
		if ptr.Deref(eks.Webhooks[i].ReinvocationPolicy, admissionv1.NeverReinvocationPolicy) != admissionv1.IfNeededReinvocationPolicy {
			return warned("EKS's own webhook is not called again for containers that later webhooks add; ours is, and gives them all",
				"nothing must be done; EKS manages that configuration", "")
		}
	}
	return fine("ours runs before EKS's own (%s), and both again where needed", eksWebhook)
}

func (d *Doctor) reinvoke(i int) string {
	return d.Kubectl.Command("patch mutatingwebhookconfiguration", d.Configuration, "--type=json -p",
		fmt.Sprintf(`'[{"op":"add","path":"/webhooks/%d/reinvocationPolicy","value":"IfNeeded"}]'`, i))
}
