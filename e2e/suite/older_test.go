package suite

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestOlderKubernetes runs what differs where the API server can't mark Pods of
// labelled ServiceAccounts (serviceAccountPods mode Webhook), and EKS's region known
// to the webhook.
func TestOlderKubernetes(t *testing.T) {
	l, err := start("older-kubernetes", "--cluster-region=us-west-2")
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	newPolicy(t, l, "any-order", subject("*", "api-sa"))

	t.Run("a Pod of a labelled ServiceAccount is injected", func(t *testing.T) {
		ns := newNamespace(t, l, nil)
		must(t, l.Client.Create(testContext(t), labelledAccount(ns, "api-sa", "any-order", nil)))
		var p = pod(ns, "app")
		// The webhook may not know the label yet, and then the backstop refuses.
		eventually(t, "the label has reached the webhook", func() bool {
			err := l.Client.Create(testContext(t), p)
			if err != nil && !strings.Contains(err.Error(), "has no bucket access injected") {
				t.Fatal(err)
			}
			return err == nil
		})
		if lacks := lacksInjection(p, "any-order"); lacks != "" {
			t.Fatalf("lacks %s", lacks)
		}
	})
	t.Run("in any order with EKS's webhook in a known region", func(t *testing.T) { anyOrder(t, l, "us-west-2") })
	t.Run("without replicas the backstop refuses and bystanders start", func(t *testing.T) {
		ns := newNamespace(t, l, nil, "plain")
		must(t, l.Client.Create(testContext(t), labelledAccount(ns, "api-sa", "any-order", nil)))
		for _, r := range l.Replicas() {
			r.Kill()
		}
		if err := l.Client.Create(testContext(t), pod(ns, "asks")); err == nil || !strings.Contains(err.Error(), "ServiceAccount asks for policy any-order by its label") {
			t.Errorf("got %v", err)
		}
		for name, p := range map[string]client.Object{"bystander": pod(ns, "bystander", account("plain")), "opted out": pod(ns, "out", label("bucket-access.io/policy", "none"))} {
			if err := l.Client.Create(testContext(t), p); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	if !l.MarksPods() {
		t.Run("the manifests for newer servers are told apart", func(t *testing.T) { wrongManifests(t, l) })
	}
}

// wrongManifests applies what needs Kubernetes 1.36: what is left is safe, and doctor names it.
func wrongManifests(t *testing.T, l *lab.Lab) {
	t.Helper()
	if _, _, err := l.Kubectl(testContext(t), "", "apply", "-k", "manifests/default"); err == nil {
		t.Error("kubectl does not complain")
	}
	_, err := l.StartReplica(testContext(t), "of-a-newer-one")
	must(t, err)
	ns := newNamespace(t, l, nil)
	must(t, l.Client.Create(testContext(t), labelledAccount(ns, "api-sa", "any-order", nil)))
	eventually(t, "a Pod that nobody marks is refused", func() bool {
		err := l.Client.Create(testContext(t), pod(ns, "asks"), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "has no bucket access injected")
	})
	report, _, code := plugin(t, "", nil, "doctor", "--kubeconfig="+l.Kubeconfig)
	if code == 0 || !strings.Contains(report, "is for Kubernetes 1.36 and newer") || !strings.Contains(report, "manifests/older-kubernetes") {
		t.Errorf("doctor ends in %d and says: %s", code, report)
	}
}
