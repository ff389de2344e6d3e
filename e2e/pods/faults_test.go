package pods

import (
	"context"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// replicas are the webhook's Pods that are not on their way out.
func replicas(tb testing.TB) (alive []corev1.Pod) {
	tb.Helper()
	var list corev1.PodList
	must(tb, c.Client.List(testContext(tb), &list, client.InNamespace(lab.Namespace), client.MatchingLabels{"app.kubernetes.io/name": lab.Name}))
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			alive = append(alive, list.Items[i])
		}
	}
	return alive
}

// waitReplicas waits until n replicas are ready and none but them is left.
func waitReplicas(tb testing.TB, n int) {
	tb.Helper()
	within(tb, 2*time.Minute, fmt.Sprintf("%d replicas are ready", n), func() string {
		var list corev1.PodList
		if err := c.Client.List(context.Background(), &list, client.InNamespace(lab.Namespace), client.MatchingLabels{"app.kubernetes.io/name": lab.Name}); err != nil {
			return err.Error()
		}
		ready := 0
		for i := range list.Items {
			if slices.ContainsFunc(list.Items[i].Status.Conditions, func(condition corev1.PodCondition) bool {
				return condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
			}) {
				ready++
			}
		}
		if ready != n || len(list.Items) != n {
			return fmt.Sprintf("%d of %d", ready, len(list.Items))
		}
		return ""
	})
}

func rollOut(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", lab.Namespace, "rollout", "status", "deployment/"+lab.Name, "--timeout=2m")
	waitReplicas(t, 2)
}

// TestNothingIsLostWhileReplicasGo creates Pods without pause while the replicas restart,
// are evicted, lose their leader and replace the CA.
func TestNothingIsLostWhileReplicasGo(t *testing.T) {
	for name, disturb := range map[string]func(*testing.T){
		"one restart after the other": func(t *testing.T) {
			t.Helper()
			kubectl(t, "-n", lab.Namespace, "rollout", "restart", "deployment/"+lab.Name)
			rollOut(t)
		},
		"one eviction after the other": func(t *testing.T) {
			t.Helper()
			for _, replica := range replicas(t) {
				within(t, time.Minute, "the eviction is allowed", func() string {
					return text(c.Client.SubResource("eviction").Create(context.Background(), &replica, &policyv1.Eviction{
						ObjectMeta: metav1.ObjectMeta{Namespace: replica.Namespace, Name: replica.Name}}))
				})
				waitReplicas(t, 2)
			}
		},
		"the leader goes": func(t *testing.T) {
			t.Helper()
			leader := func() string {
				var lease coordinationv1.Lease
				must(t, c.Client.Get(testContext(t), client.ObjectKey{Namespace: lab.Namespace, Name: lab.Name}, &lease))
				return ptr.Deref(lease.Spec.HolderIdentity, "")
			}
			before := leader()
			pod, _, _ := strings.Cut(before, "_")
			kubectl(t, "-n", lab.Namespace, "delete", "pod", pod)
			within(t, time.Minute, "another one leads", func() string {
				if now := leader(); now == before || now == "" {
					return "it is still " + now
				}
				return ""
			})
			waitReplicas(t, 2)
		},
		"the CA is replaced": func(t *testing.T) {
			t.Helper()
			before := caBundle(t)
			kubectl(t, "-n", lab.Namespace, "delete", "secret", "bucket-access-webhook-ca")
			within(t, time.Minute, "a new CA is trusted beside the old one", func() string {
				if now := caBundle(t); len(certificates(now)) < 2 || !strings.Contains(now, before) {
					return fmt.Sprintf("%d CAs", len(certificates(now)))
				}
				return ""
			})
			time.Sleep(30 * time.Second) // until the leaf of the new one has been served for a while
		},
	} {
		t.Run(name, func(t *testing.T) {
			waitReplicas(t, 2)
			l := startLoad(t)
			time.Sleep(2 * time.Second)
			disturb(t)
			time.Sleep(2 * time.Second)
			l.wantNoneLost(t)
		})
	}
}

func caBundle(t *testing.T) string {
	t.Helper()
	var configuration registrationv1.MutatingWebhookConfiguration
	must(t, c.Client.Get(testContext(t), client.ObjectKey{Name: lab.Name}, &configuration))
	return string(configuration.Webhooks[0].ClientConfig.CABundle)
}

func certificates(bundle string) (found []string) {
	for block, rest := pem.Decode([]byte(bundle)); block != nil; block, rest = pem.Decode(rest) {
		found = append(found, string(block.Bytes))
	}
	return found
}

// TestAKilledReplicaLosesOnlyWhatItHeld: SIGKILL gives a replica no time to say good-bye.
// Until its endpoint is gone, requests that go there are refused, and counted; no Pod comes
// up without injection, and bystanders notice nothing.
func TestAKilledReplicaLosesOnlyWhatItHeld(t *testing.T) {
	waitReplicas(t, 2)
	l := startLoad(t)
	time.Sleep(2 * time.Second)
	victim := replicas(t)[0]
	killed := time.Now()
	kill(t, &victim)
	within(t, time.Minute, "the container was started anew", func() string {
		var p corev1.Pod
		must(t, c.Client.Get(testContext(t), client.ObjectKeyFromObject(&victim), &p))
		if len(p.Status.ContainerStatuses) == 0 || p.Status.ContainerStatuses[0].RestartCount == 0 {
			return "it was not restarted"
		}
		return ""
	})
	waitReplicas(t, 2)
	back := time.Since(killed)
	time.Sleep(2 * time.Second)
	refused := l.end()
	t.Logf("back after %.1f s: %d labelled Pods and %d bystanders were created, %d refused, %d without injection",
		back.Seconds(), l.created.Load(), l.bystanders.Load(), len(refused), l.uninjected.Load())
	if l.uninjected.Load() > 0 {
		t.Errorf("%d Pods without injection", l.uninjected.Load())
	}
	inFlight := 0
	for _, said := range refused {
		if !strings.Contains(said, "connection refused") {
			inFlight++
		}
		if strings.HasPrefix(said, "bystander") || !strings.Contains(said, "failed calling webhook") {
			t.Errorf("refused, and not for the replica that was killed: %s", said)
		}
	}
	t.Logf("%d of them were in flight; %d connections were refused until the endpoint was gone", inFlight, len(refused)-inFlight)
	if total := len(refused) + int(l.created.Load()); len(refused)*4 > total {
		t.Errorf("%d of %d were refused: the replica that lives serves only some", len(refused), total)
	}
}

// kill sends SIGKILL to the Pod's processes, from a Pod that sees the node's.
func kill(t *testing.T, victim *corev1.Pod) {
	t.Helper()
	namespace := newNamespace(t, "pod-security.kubernetes.io/enforce", "privileged")
	killer := pod(namespace, "killer", func(p *corev1.PodTemplateSpec) {
		p.Spec.HostPID, p.Spec.NodeName, p.Spec.RestartPolicy = true, victim.Spec.NodeName, corev1.RestartPolicyNever
		p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr.To(int64(0))}
		p.Spec.Containers[0].Args = []string{"-kill=" + string(victim.UID), "-kill-name=bucket-access-w"} // comm has 15 characters
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
	})
	must(t, c.Client.Create(testContext(t), killer))
	within(t, time.Minute, "it was killed", func() string {
		var p corev1.Pod
		must(t, c.Client.Get(testContext(t), client.ObjectKeyFromObject(killer), &p))
		if p.Status.Phase != corev1.PodSucceeded {
			return "the killer has not ended" + state(t, namespace, "killer")
		}
		return ""
	})
}

// TestEveryReplicaDown: who asks is refused, whichever label says so; everybody else starts.
func TestEveryReplicaDown(t *testing.T) {
	waitReplicas(t, 2)
	l := startLoad(t)
	l.end()
	kubectl(t, "-n", lab.Namespace, "scale", "deployment/"+lab.Name, "--replicas=0")
	t.Cleanup(func() {
		kubectl(t, "-n", lab.Namespace, "scale", "deployment/"+lab.Name, "--replicas=2")
		rollOut(t)
	})
	waitReplicas(t, 0)
	for way := range l.namespaces {
		err := c.Client.Create(testContext(t), l.pod(way, 1<<20))
		switch {
		case way == "bystander" && err != nil:
			t.Errorf("a bystander is refused: %v", err)
		case way != "bystander" && (err == nil || !strings.Contains(err.Error(), "failed calling webhook")):
			t.Errorf("labelled on the %s: %v", way, err)
		}
	}
	started := pod(l.namespaces["bystander"], "starts", func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].Args = []string{"-hold"} })
	must(t, c.Client.Create(testContext(t), started))
	within(t, time.Minute, "a bystander runs", func() string {
		var p corev1.Pod
		must(t, c.Client.Get(testContext(t), client.ObjectKeyFromObject(started), &p))
		if p.Status.Phase != corev1.PodRunning {
			return string(p.Status.Phase)
		}
		return ""
	})
}

// TestWithoutTheWebhookConfiguration: somebody deletes it, and the backstops refuse.
func TestWithoutTheWebhookConfiguration(t *testing.T) {
	waitReplicas(t, 2)
	l := startLoad(t)
	l.end()
	var configuration registrationv1.MutatingWebhookConfiguration
	must(t, c.Client.Get(testContext(t), client.ObjectKey{Name: lab.Name}, &configuration))
	must(t, c.Client.Delete(testContext(t), &configuration))
	t.Cleanup(func() {
		must(t, install(testContext(t), "managed"))
		within(t, time.Minute, "the webhook is called again", func() string {
			p := l.pod("pod", 1<<22)
			if err := c.Client.Create(testContext(t), p, client.DryRunAll); err != nil {
				return err.Error()
			}
			return l.wrong("pod", p)
		})
	})
	for _, way := range []string{"pod", "serviceaccount"} {
		within(t, 30*time.Second, "the backstop refuses by the "+way, func() string {
			err := c.Client.Create(testContext(t), l.pod(way, 1<<21), client.DryRunAll)
			if err == nil || !strings.Contains(err.Error(), "bucket-access") || strings.Contains(err.Error(), "failed calling") {
				return fmt.Sprint(err)
			}
			if !strings.Contains(err.Error(), "webhook") {
				return "the sentence does not say what is missing: " + err.Error()
			}
			return ""
		})
	}
	must(t, c.Client.Create(testContext(t), l.pod("bystander", 1<<21), client.DryRunAll))
}
