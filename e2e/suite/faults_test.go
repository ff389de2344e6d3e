package suite

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// faultLab is a lab of its own without replicas, with a labelled Namespace,
// ServiceAccount and the policy "faults".
func faultLab(t *testing.T) (*lab.Lab, string, string) {
	t.Helper()
	l, err := lab.Start(testContext(t), lab.Options{LogDir: os.Getenv("LOG_DIR")})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	must(t, l.Client.Create(testContext(t), policyConfigMap("faults", policyDocument(subject("*", "*")))))
	plain := newNamespace(t, l, nil, "api-sa")
	labelled := newNamespace(t, l, map[string]string{"bucket-access.io/policy": "faults"}, "api-sa")
	must(t, l.Client.Create(testContext(t), labelledAccount(plain, "labelled", "faults", nil)))
	// An API server takes a moment until a fresh admission policy is in force, and the backstop
	// may be before that which marks Pods.
	eventually(t, "the installation is in force", func() bool {
		for way, p := range asking(plain, labelled, "installed") {
			err := l.Client.Create(testContext(t), p, client.DryRunAll)
			if err == nil || !strings.Contains(err.Error(), refusedWithout(l, way)) {
				return false
			}
		}
		return true
	})
	return l, plain, labelled
}

// refusedWithout is the sentence by which a Pod is refused while there is no replica. Where Pods
// of labelled ServiceAccounts are not marked, every other Pod is sent to the webhook, the call may
// fail, and the backstop refuses.
func refusedWithout(l *lab.Lab, way string) string {
	if way == "the ServiceAccount's label" && !l.MarksPods() {
		return "has no bucket access injected: the webhook did not see it"
	}
	return "failed calling webhook"
}

// asking are Pods that ask for the policy by each of the three labels.
func asking(plain, labelled, name string) map[string]*corev1.Pod {
	return map[string]*corev1.Pod{
		"the Pod's label":            pod(plain, name+"-pod", label("bucket-access.io/policy", "faults")),
		"the ServiceAccount's label": pod(plain, name+"-account", account("labelled")),
		"the Namespace's label":      pod(labelled, name+"-namespace"),
	}
}

// backstop is what a Pod is refused with that nobody has injected.
const backstop = "has no bucket access injected: the webhook did not see it"

// eachRefused says whether Pods that ask in these ways are refused with a sentence. An API server
// reads admission policies once a second, so that one may be in force before another.
func eachRefused(t *testing.T, l *lab.Lab, pods map[string]*corev1.Pod, sentence string, ways ...string) bool {
	t.Helper()
	return !slices.ContainsFunc(ways, func(way string) bool {
		err := l.Client.Create(testContext(t), pods[way], client.DryRunAll)
		return err == nil || !strings.Contains(err.Error(), sentence)
	})
}

// wantRefused: Pods that ask are refused, all others start.
func wantRefused(t *testing.T, l *lab.Lab, plain, labelled, name, sentence string, ways ...string) {
	t.Helper()
	pods := asking(plain, labelled, name)
	for _, way := range ways {
		if err := l.Client.Create(testContext(t), pods[way]); err == nil || !strings.Contains(err.Error(), sentence) {
			t.Errorf("by %s: %v; want a refusal with %q", way, err, sentence)
		}
	}
	for other, p := range map[string]*corev1.Pod{
		"no label":  pod(plain, name+"-bystander"),
		"opted out": pod(plain, name+"-opted-out", label("bucket-access.io/policy", "none")),
	} {
		if err := l.Client.Create(testContext(t), p); err != nil {
			t.Errorf("a Pod with %s was refused: %v", other, err)
		}
	}
}

func TestWithoutAnyReplicaLabelledPodsAreRefusedAndAllOthersStart(t *testing.T) {
	l, plain, labelled := faultLab(t)
	for i, way := range slices.Sorted(maps.Keys(asking(plain, labelled, "down"))) {
		wantRefused(t, l, plain, labelled, fmt.Sprint("down-", i), refusedWithout(l, way), way)
	}

	// The webhook configuration gone: the backstops refuse with our sentence.
	must(t, l.Client.Delete(testContext(t), &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}))
	eventually(t, "the API server has forgotten the webhook, and each backstop is in force", func() bool {
		return eachRefused(t, l, asking(plain, labelled, "probe"), backstop, "the Pod's label", "the ServiceAccount's label")
	})
	wantRefused(t, l, plain, labelled, "gone", backstop, "the Pod's label", "the ServiceAccount's label")
}

func TestServiceAccountsThatWereThereBefore(t *testing.T) {
	l, plain, _ := faultLab(t)
	must(t, l.Client.Create(testContext(t), labelledAccount(plain, "conflict", "faults", map[string]string{"eks.amazonaws.com/role-arn": roleA})))
	_, err := l.StartReplica(testContext(t), "only")
	must(t, err)
	roleOf := func(name string) string {
		var sa corev1.ServiceAccount
		must(t, l.Client.Get(testContext(t), client.ObjectKey{Namespace: plain, Name: name}, &sa))
		return sa.Annotations["eks.amazonaws.com/role-arn"]
	}
	eventually(t, "the ServiceAccount is annotated", func() bool { return roleOf("labelled") != "" })
	eventually(t, "an Event tells of the conflict", func() bool {
		said, _, err := l.Kubectl(testContext(t), "", "-n", plain, "get", "events", "-o", "jsonpath={.items[*].message}")
		must(t, err)
		return strings.Contains(said, "remove the annotation")
	})
	if got := roleOf("conflict"); got != roleA {
		t.Errorf("a user's role was overwritten: %s", got)
	}
}

// TestABrokenPolicySurvivesRestarts breaks, mends, deletes and restores a policy
// while both replicas are replaced one after the other and Pods are created.
func TestABrokenPolicySurvivesRestarts(t *testing.T) {
	l, plain, labelled := faultLab(t)
	ctx := testContext(t)
	for _, name := range []string{"one", "two"} {
		_, err := l.StartReplica(ctx, name)
		must(t, err)
	}
	// Without the entry that refuses bad ConfigMaps, as when it was down.
	must(t, l.Client.Delete(ctx, &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}))
	change := func(document string) {
		t.Helper()
		eventually(t, "the ConfigMap is changed", func() bool { return l.Client.Update(ctx, policyConfigMap("faults", document)) == nil })
	}
	n := 0
	check := func(when string) {
		t.Helper()
		for way, p := range asking(plain, labelled, fmt.Sprintf("p%d", n)) {
			if err := l.Client.Create(ctx, p); err != nil {
				t.Fatalf("%s, by %s: %v", when, way, err)
			}
			if lacks := lacksInjection(p, "faults"); lacks != "" {
				t.Fatalf("%s, by %s: lacks %s", when, way, lacks)
			}
		}
		n++
	}
	check("in the beginning")
	change("bucket: [broken")
	eventually(t, "the last good version is remembered", func() bool {
		var kept corev1.ConfigMap
		err := l.Client.Get(ctx, client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-last-good"}, &kept)
		return err == nil && strings.Contains(kept.Data["faults"], "orders-data")
	})
	eventually(t, "an Event tells what is wrong", func() bool {
		said, _, err := l.Kubectl(ctx, "", "-n", lab.Namespace, "get", "events", "-o", "jsonpath={.items[*].message}")
		must(t, err)
		return strings.Contains(said, "data[faults]: Invalid value: is no YAML") && strings.Contains(said, "a subject removed by this edit still has access")
	})
	check("broken")
	replaceAll(t, l, func() { check("broken, while replicas are replaced") })
	for range 6 {
		check("broken, after both were replaced") // both answer
	}
	change(policyDocument(subject("*", "*")) + "\n# mended\n")
	eventually(t, "the record is dropped", func() bool {
		var kept corev1.ConfigMap
		must(t, l.Client.Get(ctx, client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-last-good"}, &kept))
		return len(kept.Data) == 0
	})
	check("mended")
	must(t, l.Client.Delete(ctx, policyConfigMap("faults", "")))
	eventually(t, "a deleted policy is gone on both replicas", func() bool {
		for i := range 6 {
			err := l.Client.Create(ctx, pod(plain, fmt.Sprintf("x%d", i), label("bucket-access.io/policy", "faults")), client.DryRunAll)
			if err == nil || !strings.Contains(err.Error(), "which does not exist") {
				return false
			}
		}
		return true
	})
	must(t, l.Client.Create(ctx, policyConfigMap("faults", policyDocument(subject("*", "*")))))
	check("restored")
}

// replaceAll replaces the replicas one after the other as a Deployment does: a new
// one comes first, then an old one goes.
func replaceAll(t *testing.T, l *lab.Lab, between func()) {
	t.Helper()
	for i, old := range l.Replicas() {
		_, err := l.StartReplica(testContext(t), fmt.Sprintf("%s-new%d", old.Name, i))
		must(t, err)
		between()
		must(t, old.Terminate())
		between()
	}
}

// TestARollingRestartRefusesNothing creates Pods without pause while every replica
// is replaced.
func TestARollingRestartRefusesNothing(t *testing.T) {
	l, plain, labelled := faultLab(t)
	for _, name := range []string{"one", "two"} {
		_, err := l.StartReplica(testContext(t), name)
		must(t, err)
	}
	ctx, stop := context.WithCancel(testContext(t))
	var count atomic.Int64
	var group sync.WaitGroup
	for worker := range 3 {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				for way, p := range asking(plain, labelled, fmt.Sprintf("w%d-%d", worker, i)) {
					if err := l.Client.Create(context.WithoutCancel(ctx), p); err != nil {
						t.Errorf("by %s: %v", way, err)
						return
					}
					if lacks := lacksInjection(p, "faults"); lacks != "" {
						t.Errorf("by %s: lacks %s", way, lacks)
					}
					count.Add(1)
				}
			}
		})
	}
	replaceAll(t, l, func() { time.Sleep(500 * time.Millisecond) })
	stop()
	group.Wait()
	t.Logf("%d labelled Pods were created meanwhile, none refused, all injected", count.Load())
	if count.Load() < 100 {
		t.Fatal("too few to prove anything")
	}
}
