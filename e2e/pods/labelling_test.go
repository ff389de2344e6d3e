package pods

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/cluster"
	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestTheLabelWherePeopleSetIt labels what runs already, as kubectl label does, and
// creates Pods after it.
func TestTheLabelWherePeopleSetIt(t *testing.T) {
	t.Run("a Namespace", func(t *testing.T) {
		namespace := newNamespace(t)
		must(t, c.Client.Create(testContext(t), pod(namespace, "before")))
		kubectl(t, "label", "namespace", namespace, policyLabel+"=e2e")
		must(t, c.Client.Create(testContext(t), pod(namespace, "after")))
		wantRead(t, namespace, "after", "app")
		wantPolicy(t, namespace, "before", "")
		must(t, c.Client.Create(testContext(t), pod(namespace, "opted-out", labelled(policyLabel, "none"))))
		wantPolicy(t, namespace, "opted-out", "")
		kubectl(t, "label", "serviceaccount", "-n", namespace, "default", policyLabel+"=none")
		must(t, c.Client.Create(testContext(t), pod(namespace, "account-opted-out", account("default"))))
		wantPolicy(t, namespace, "account-opted-out", "")
	})
	t.Run("a ServiceAccount", func(t *testing.T) {
		namespace := newNamespace(t)
		kubectl(t, "label", "serviceaccount", "-n", namespace, "reader", policyLabel+"=e2e")
		must(t, c.Client.Create(testContext(t), pod(namespace, "after")))
		wantRead(t, namespace, "after", "app")
		must(t, c.Client.Create(testContext(t), pod(namespace, "another", account("default"))))
		wantPolicy(t, namespace, "another", "")
		must(t, c.Client.Create(testContext(t), pod(namespace, "opted-out", labelled(policyLabel, "none"))))
		wantPolicy(t, namespace, "opted-out", "")
	})
	t.Run("a Pod", func(t *testing.T) {
		namespace := newNamespace(t)
		must(t, c.Client.Create(testContext(t), pod(namespace, "asks", labelled(policyLabel, "e2e"))))
		must(t, c.Client.Create(testContext(t), pod(namespace, "silent")))
		wantRead(t, namespace, "asks", "app")
		wantPolicy(t, namespace, "silent", "")
		_, stderr, err := c.Kubectl(testContext(t), "", "-n", namespace, "label", "pod", "silent", policyLabel+"=e2e")
		if err == nil || !strings.Contains(stderr, "restart") && !strings.Contains(stderr, "again") {
			t.Errorf("labelling a Pod that runs: %s", stderr)
		}
	})
}

func wantPolicy(t *testing.T, namespace, name, want string) {
	t.Helper()
	var p corev1.Pod
	must(t, c.Client.Get(testContext(t), client.ObjectKey{Namespace: namespace, Name: name}, &p))
	if got := injectedWith(&p); got != want {
		t.Errorf("%s was injected with %q, want %q", name, got, want)
	}
}

// TestAPolicyChanges: Pods that run keep what they have, and a rollout brings what is new.
func TestAPolicyChanges(t *testing.T) {
	namespace := newNamespace(t)
	setPolicy := func(more ...string) {
		t.Helper()
		object := &corev1.ConfigMap{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
			ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "policy-changing", Labels: map[string]string{"bucket-access.io/policies": "true"}},
			Data:       map[string]string{"changing": c.Bucket.Document(cluster.Everyone, more...)},
		}
		manifest, err := json.Marshal(object)
		must(t, err)
		if _, stderr, err := c.Kubectl(testContext(t), string(manifest), "apply", "-f", "-"); err != nil {
			t.Fatal(stderr)
		}
	}
	setPolicy("tokenExpirationSeconds: 3600")
	t.Cleanup(func() { kubectl(t, "-n", lab.Namespace, "delete", "configmap", "policy-changing") })
	waitPolicy(t, namespace, "changing", 3600)
	must(t, c.Client.Create(testContext(t), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "changing"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"workload": "changing"}},
			Template: template(labelled("workload", "changing"), labelled(policyLabel, "changing")),
		},
	}))
	kubectl(t, "-n", namespace, "rollout", "status", "deployment/changing", "--timeout=60s")
	before := podsOf(t, namespace, "changing", time.Minute)[0]
	wantRead(t, namespace, before.Name, "app")
	setPolicy("tokenExpirationSeconds: 7200")
	waitPolicy(t, namespace, "changing", 7200)
	var running corev1.Pod
	must(t, c.Client.Get(testContext(t), client.ObjectKeyFromObject(&before), &running))
	if expiration(&running) != 3600 {
		t.Errorf("a running Pod's token is %d s", expiration(&running))
	}
	kubectl(t, "-n", namespace, "rollout", "restart", "deployment/changing")
	kubectl(t, "-n", namespace, "rollout", "status", "deployment/changing", "--timeout=90s")
	for _, p := range podsOf(t, namespace, "changing", time.Minute) {
		if p.DeletionTimestamp == nil {
			if expiration(&p) != 7200 {
				t.Errorf("after the rollout the token is %d s", expiration(&p))
			}
			wantRead(t, namespace, p.Name, "app")
		}
	}
}

// waitPolicy waits until new Pods get tokens of a lifetime.
func waitPolicy(t *testing.T, namespace, policy string, seconds int64) {
	t.Helper()
	within(t, 20*time.Second, "the policy is in force", func() string {
		p := pod(namespace, "dry", labelled(policyLabel, policy))
		if err := c.Client.Create(context.Background(), p, client.DryRunAll); err != nil {
			return err.Error()
		}
		if expiration(p) != seconds {
			return "it is not the new one"
		}
		return ""
	})
}

// expiration is the lifetime of the injected token, in seconds, 0 without one.
func expiration(p *corev1.Pod) int64 {
	for _, v := range p.Spec.Volumes {
		if v.Name == "aws-iam-token" {
			return *v.Projected.Sources[0].ServiceAccountToken.ExpirationSeconds
		}
	}
	return 0
}
