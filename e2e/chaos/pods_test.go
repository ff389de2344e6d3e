package chaos

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const (
	policyLabel = "bucket-access.io/policy"
	wayLabel    = "chaos.test/way"
	steadyName  = "steady" // a policy that nobody touches
)

// way is how a Pod asks, or does not.
type way string

const (
	byPod       way = "Pod"
	bySteady    way = "Pod, another policy"
	byAccount   way = "ServiceAccount"
	byFresh     way = "ServiceAccount, made right before"
	byLater     way = "ServiceAccount, made 250 ms before"
	byNamespace way = "Namespace"
	bystander   way = "no label"
	optedOut    way = "opted out"
)

var ways = []way{byPod, bySteady, byAccount, byFresh, byLater, byNamespace, bystander, optedOut}

func (w way) asks() bool { return w != bystander && w != optedOut }

func (w way) byServiceAccount() bool { return w == byAccount || w == byFresh || w == byLater }

// key is the way as the value of a label.
func (w way) key() string {
	return map[way]string{byPod: "pod", bySteady: "steady", byAccount: "account", byFresh: "fresh", byLater: "later", byNamespace: "namespace",
		bystander: "bystander", optedOut: "opted-out"}[w]
}

// newPod is a Pod as a controller would create it.
func (c *chaos) newPod(w way, name string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.plain, Name: w.key() + "-" + name, Labels: map[string]string{wayLabel: w.key()}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "default",
			InitContainers:     []corev1.Container{{Name: "init", Image: "registry.example.com/init:v1"}},
			Containers:         []corev1.Container{{Name: "app", Image: "registry.example.com/app:v1", Env: []corev1.EnvVar{{Name: "MODE", Value: "chaos"}}}},
		},
	}
	switch w {
	case byPod:
		p.Labels[policyLabel] = policyName
	case bySteady:
		p.Labels[policyLabel] = steadyName
	case byAccount:
		p.Spec.ServiceAccountName = "labelled"
	case byFresh, byLater:
		p.Spec.ServiceAccountName = p.Name
	case byNamespace:
		p.Namespace = c.labelled
	case optedOut:
		p.Namespace, p.Labels[policyLabel] = c.labelled, "none"
	case bystander:
	}
	return p
}

// freshAccount is the ServiceAccount that comes and goes with its Pod.
func freshAccount(p *corev1.Pod) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Spec.ServiceAccountName, Labels: map[string]string{policyLabel: policyName},
	}}
}

// bucketOf is what the first container was told.
func bucketOf(p *corev1.Pod) string { return lab.Env(&p.Spec.Containers[0], "BUCKET_NAME") }

// lacks says how a Pod that was let in differs from what its way asks for, whichever
// version of the policy it was made from; that is returned as well.
func lacks(w way, p *corev1.Pod) (what string, version int) {
	switch {
	case !w.asks():
		if _, injected := p.Labels["bucket-access.io/injected"]; injected || bucketOf(p) != "" {
			return "a bystander was injected", 0
		}
		return "", 0
	case w == bySteady:
		return lab.LacksInjection(p, lab.Injection{Policy: steadyName, Bucket: "steady-data", Region: "eu-west-1"}), 0
	}
	version, known := versionOf(bucketOf(p))
	if !known {
		return "injection: " + lab.LacksInjection(p, injectionOf(0)), 0
	}
	return lab.LacksInjection(p, injectionOf(version)), version
}

// wayOf is the way that a Pod's own label tells.
func wayOf(p *corev1.Pod) way {
	for _, w := range ways {
		if w.key() == p.Labels[wayLabel] {
			return w
		}
	}
	return bystander
}

// atOnce ends a Pod without grace. Each deletion has its own options: a client writes on what it sends.
func atOnce() *metav1.DeleteOptions {
	return &metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))}
}
