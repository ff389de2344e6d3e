package suite

import (
	"fmt"
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestBackstopsJudgeByTheirConditions: what their bindings select saves time, and decides nothing. In
// the moment of an upgrade, bindings may be others than the definitions were made for.
func TestBackstopsJudgeByTheirConditions(t *testing.T) {
	l, plain, labelled := faultLab(t)
	must(t, l.Client.Delete(testContext(t), &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}))
	const ours = "with binding 'unselected-"
	bindWithoutSelectors(t, l)
	eventually(t, "the API server has the bindings without selectors alone", func() bool {
		return eachRefused(t, l, asking(plain, labelled, "probe"), ours, "the Pod's label", "the ServiceAccount's label")
	})
	wantRefused(t, l, plain, labelled, "unselected", backstop, "the Pod's label", "the ServiceAccount's label")

	const system = "kube-system"
	must(t, l.EnsureDefaultAccount(testContext(t), system))
	must(t, l.Client.Create(testContext(t), labelledAccount(system, "labelled", "faults", nil)))
	byDefault := newNamespace(t, l, nil)
	must(t, l.Client.Update(testContext(t), labelledAccount(byDefault, "default", "faults", nil)))
	eventually(t, "the API server knows that ServiceAccount", func() bool {
		err := l.Client.Create(testContext(t), pod(byDefault, "probe", account("")), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), ours)
	})
	asks := label("bucket-access.io/policy", "faults")
	started := map[string]*corev1.Pod{
		"opted out, of a labelled ServiceAccount":             pod(plain, "out", label("bucket-access.io/policy", "none"), account("labelled")),
		"labelled, of an excluded Namespace":                  pod(system, "asks", asks, account("default")),
		"of a labelled ServiceAccount of an excluded one":     pod(system, "account", account("labelled")),
		"a mirror of a labelled static Pod":                   pod(plain, "mirror", asks, mirror),
		"a mirror, which has no ServiceAccount but a default": pod(byDefault, "mirror", mirror),
	}
	for what, p := range started {
		if err := l.Client.Create(testContext(t), p); err != nil {
			t.Errorf("a Pod, %s: %v", what, err)
		}
	}

	// relabel sets a label on a running Pod.
	relabel := func(what, key string) error {
		patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata": {"labels": {%q: "faults"}}}`, key))
		return l.Client.Patch(testContext(t), started[what].DeepCopy(), patch, client.DryRunAll)
	}
	const policy = "bucket-access.io/policy"
	eventually(t, "the label on a running Pod is refused", func() bool {
		err := relabel("opted out, of a labelled ServiceAccount", policy)
		return err != nil && strings.Contains(err.Error(), ours)
	})
	for what, key := range map[string]string{
		"of a labelled ServiceAccount of an excluded one": policy,
		"opted out, of a labelled ServiceAccount":         "another-label",
	} {
		if err := relabel(what, key); err != nil {
			t.Errorf("%s on a running Pod, %s: %v", key, what, err)
		}
	}
}

// bindWithoutSelectors replaces each binding by one of another name that selects nothing.
func bindWithoutSelectors(t *testing.T, l *lab.Lab) {
	t.Helper()
	bindings := &registrationv1.ValidatingAdmissionPolicyBindingList{}
	must(t, l.Client.List(testContext(t), bindings, client.HasLabels{"app.kubernetes.io/name"}))
	if len(bindings.Items) != 3 {
		t.Fatalf("there are %d bindings", len(bindings.Items))
	}
	for i := range bindings.Items {
		binding := &bindings.Items[i]
		must(t, l.Client.Delete(testContext(t), binding))
		binding.ObjectMeta = metav1.ObjectMeta{Name: "unselected-" + binding.Name}
		binding.Spec.MatchResources = nil
		must(t, l.Client.Create(testContext(t), binding))
	}
}

// mirror makes a Pod the API server's image of a static one, as a kubelet does.
func mirror(p *corev1.Pod) {
	p.Annotations["kubernetes.io/config.mirror"] = "hash"
	p.Spec.ServiceAccountName = ""
	p.Spec.NodeName = "node"
}
