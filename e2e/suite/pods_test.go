package suite

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// lacksInjection returns how the Pod lacks what policyDocument gives, or nothing.
func lacksInjection(p *corev1.Pod, policy string) string {
	return lab.LacksInjection(p, lab.Injection{Policy: policy, Bucket: "orders-data", Region: "eu-west-1"})
}

func created(tb testing.TB, l *lab.Lab, p *corev1.Pod) *corev1.Pod {
	tb.Helper()
	must(tb, l.Client.Create(testContext(tb), p))
	return p
}

func TestEachLabelGivesAccess(t *testing.T) {
	newPolicy(t, cluster, "each-label", subject("*", "api-sa"))
	policy := map[string]string{"bucket-access.io/policy": "each-label"}

	t.Run("on the Pod", func(t *testing.T) {
		ns := newNamespace(t, cluster, nil, "api-sa")
		p := created(t, cluster, pod(ns, "app", label("bucket-access.io/policy", "each-label")))
		if lacks := lacksInjection(p, "each-label"); lacks != "" {
			t.Fatalf("the Pod lacks: %s", lacks)
		}
	})
	t.Run("on the ServiceAccount", func(t *testing.T) {
		ns := newNamespace(t, cluster, nil)
		sa := &corev1.ServiceAccount{}
		sa.Namespace, sa.Name, sa.Labels = ns, "api-sa", policy
		must(t, cluster.Client.Create(testContext(t), sa))
		p := created(t, cluster, pod(ns, "app"))
		if lacks := lacksInjection(p, "each-label"); lacks != "" {
			t.Fatalf("the Pod lacks: %s", lacks)
		}
	})
	t.Run("on the Namespace", func(t *testing.T) {
		ns := newNamespace(t, cluster, policy, "api-sa")
		p := created(t, cluster, pod(ns, "app"))
		if lacks := lacksInjection(p, "each-label"); lacks != "" {
			t.Fatalf("the Pod lacks: %s", lacks)
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		ns := newNamespace(t, cluster, nil, "api-sa")
		p := created(t, cluster, pod(ns, "app"))
		if p.Labels["bucket-access.io/injected"] != "" || len(p.Spec.Containers[0].Env) != 0 {
			t.Fatalf("a Pod that nobody asked for was changed: %v", p.Spec.Containers[0].Env)
		}
	})
}
