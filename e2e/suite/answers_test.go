package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// kubectl runs it with objects as its input, and returns what a person reads.
func kubectl(t *testing.T, objects []any, args ...string) (said string, err error) {
	t.Helper()
	var documents []string
	for _, object := range objects {
		document, err := yaml.Marshal(object)
		must(t, err)
		documents = append(documents, string(document))
	}
	stdout, stderr, err := cluster.Kubectl(testContext(t), strings.Join(documents, "\n---\n"), args...)
	return stdout + stderr, err
}

// workload makes an object of a kind around a Pod's metadata and spec; edits change its own metadata.
func workload(kind string, p *corev1.Pod, edits ...func(*metav1.ObjectMeta)) any {
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": p.Name}, Annotations: p.Annotations}, Spec: p.Spec}
	for key, value := range p.Labels {
		template.Labels[key] = value
	}
	meta := metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: map[string]string{}}
	for _, edit := range edits {
		edit(&meta)
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": p.Name}}
	apps, batch := metav1.TypeMeta{APIVersion: "apps/v1", Kind: kind}, metav1.TypeMeta{APIVersion: "batch/v1", Kind: kind}
	once := *template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	switch kind {
	case "Deployment":
		return &appsv1.Deployment{TypeMeta: apps, ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}}
	case "StatefulSet":
		return &appsv1.StatefulSet{TypeMeta: apps, ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template, ServiceName: "none"}}
	case "DaemonSet":
		return &appsv1.DaemonSet{TypeMeta: apps, ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}
	case "ReplicaSet":
		return &appsv1.ReplicaSet{TypeMeta: apps, ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}}
	case "Job":
		return &batchv1.Job{TypeMeta: batch, ObjectMeta: meta, Spec: batchv1.JobSpec{Template: once}}
	default:
		return &batchv1.CronJob{TypeMeta: batch, ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			Schedule: "0 * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}},
		}}
	}
}

func metaLabel(value string) func(*metav1.ObjectMeta) {
	return func(m *metav1.ObjectMeta) { m.Labels["bucket-access.io/policy"] = value }
}

func ownedByAController(m *metav1.ObjectMeta) {
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "owner", UID: "1", Controller: ptr.To(true)}}
}

// TestWhatAPodWouldBeToldIsToldAtApply reads what kubectl apply shows: the same mistakes as
// those of Pods, for everything that makes Pods from a template, and never a refusal.
func TestWhatAPodWouldBeToldIsToldAtApply(t *testing.T) {
	ns := newNamespace(t, cluster, nil, "api-sa", "worker")
	labelled := newNamespace(t, cluster, map[string]string{"bucket-access.io/policy": "answers"}, "api-sa", "other")
	newPolicy(t, cluster, "answers", strings.Join([]string{subject(ns, "api-sa"), subject(labelled, "api-sa"), subject("payments-of-another-team", "ledger-sa")}, ", "))
	asks := label("bucket-access.io/policy", "answers")

	for name, test := range map[string]struct {
		pod   *corev1.Pod
		edits []func(*metav1.ObjectMeta)
		want  []string // nothing: no warning
	}{
		"all is well":    {pod: pod(ns, "well", asks)},
		"asks for none":  {pod: pod(ns, "silent")},
		"is well, twice": {pod: pod(ns, "twice", asks), edits: []func(*metav1.ObjectMeta){metaLabel("answers")}},
		"the wrong ServiceAccount": {pod(ns, "account", asks, account("worker")), nil, []string{
			"will be refused: policy", "does not list system:serviceaccount:" + ns + ":worker", "it lists api-sa", "set the Pod's serviceAccountName",
		}},
		"an unknown policy":  {pod(ns, "unknown", label("bucket-access.io/policy", "answres")), nil, []string{`names policy "answres", which does not exist`}},
		"static credentials": {pod(ns, "static", asks, env("AWS_ACCESS_KEY_ID", "AKIASECRETVALUE")), nil, []string{`container "app" sets AWS_ACCESS_KEY_ID`, "remove it"}},
		"a conflict":         {pod(ns, "conflict", asks, env("AWS_ROLE_ARN", roleA)), nil, []string{`container "app" sets AWS_ROLE_ARN to another value`}},
		"what is only warned of": {pod(ns, "spaces", asks, annotation("bucket-access.io/skip-containers", "x, app")), nil, []string{
			"of the Pods of %s", `no container is named "x", " app"`,
		}},
		"the label in the wrong place": {pod(ns, "misplaced"), []func(*metav1.ObjectMeta){metaLabel("answers")}, []string{
			"the label bucket-access.io/policy on a %s's own metadata does nothing", "template.metadata.labels; set it there",
		}},
		"asked for by the Namespace": {pod: pod(labelled, "well")},
		"asked for by the Namespace, another ServiceAccount": {pod(labelled, "account", account("other")), nil, []string{
			"does not list system:serviceaccount:" + labelled + ":other", "goes through without bucket access",
		}},
		"asked for by the Namespace, and declined":       {pod: pod(labelled, "declined", account("other"), label("bucket-access.io/policy", "none"))},
		"owned by a controller":                          {pod: pod(ns, "owned", asks, account("worker")), edits: []func(*metav1.ObjectMeta){ownedByAController}},
		"owned by a controller, in a labelled Namespace": {pod: pod(labelled, "owned", account("other")), edits: []func(*metav1.ObjectMeta){ownedByAController}},
	} {
		for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				said, err := kubectl(t, []any{workload(kind, test.pod, test.edits...)}, "apply", "-f", "-")
				if err != nil || strings.Contains(said, "Warning:") != (len(test.want) > 0) {
					t.Fatalf("%v: %s", err, said)
				}
				for _, want := range test.want {
					if want = strings.Replace(want, "%s", kind, 1); !strings.Contains(said, want) {
						t.Errorf("%q is not in: %s", want, said)
					}
				}
				for _, secret := range []string{"payments-of-another-team", "ledger-sa", "222222222222", "AKIASECRETVALUE"} {
					if strings.Contains(said, secret) {
						t.Errorf("the sentence gives away %q: %s", secret, said)
					}
				}
			})
		}
	}
	// A change is answered, too.
	if said, err := kubectl(t, []any{workload("Deployment", pod(ns, "well", asks, account("worker")))}, "apply", "-f", "-"); err != nil || !strings.Contains(said, "will be refused") {
		t.Errorf("after a change: %v: %s", err, said)
	}
}

// TestALabelledNamespaceIsAnswered reads what kubectl label shows.
func TestALabelledNamespaceIsAnswered(t *testing.T) {
	ns := newNamespace(t, cluster, nil, "api-sa")
	newPolicy(t, cluster, "of-namespace", subject(ns, "api-sa"))
	newPolicy(t, cluster, "second", subject(ns, "*"))
	newPolicy(t, cluster, "elsewhere", subject("payments-of-another-team", "ledger-sa"))
	for i := range 3 {
		created(t, cluster, pod(ns, fmt.Sprintf("before-%d", i)))
	}
	created(t, cluster, pod(ns, "own", label("bucket-access.io/policy", "second"))) // says what it wants itself
	created(t, cluster, pod(ns, "declines", label("bucket-access.io/policy", "none")))
	ended := created(t, cluster, pod(ns, "ended"))
	ended.Status.Phase = corev1.PodSucceeded
	must(t, cluster.Client.Status().Update(testContext(t), ended))
	set := func(value string) string {
		t.Helper()
		said, err := kubectl(t, nil, "label", "namespace", ns, "--overwrite", "bucket-access.io/policy="+value)
		if err != nil {
			t.Fatalf("refused: %s", said)
		}
		return said
	}
	for _, step := range []struct {
		value string
		want  []string
	}{
		{"of-namespcae", []string{`names policy "of-namespcae", which does not exist`, "correct the label's value"}},
		{"elsewhere", []string{fmt.Sprintf(`policy "elsewhere" lists no ServiceAccount of namespace %q`, ns)}},
		{"of-namespace", []string{fmt.Sprintf("3 Pods of Namespace %q predate the label", ns), "kubectl -n " + ns + " rollout restart"}},
		{"none", nil},
	} {
		if step.value == "of-namespace" { // what runs is heard of by watches
			eventually(t, "three Pods", func() bool {
				said, err := kubectl(t, nil, "label", "namespace", ns, "--overwrite", "--dry-run=server", "bucket-access.io/policy="+step.value)
				return err == nil && strings.Contains(said, "3 Pods")
			})
		}
		said := set(step.value)
		if strings.Contains(said, "Warning:") != (step.want != nil) {
			t.Errorf("%s: %s", step.value, said)
		}
		for _, want := range step.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q is not in: %s", step.value, want, said)
			}
		}
		for _, secret := range []string{"payments-of-another-team", "ledger-sa", "222222222222"} {
			if strings.Contains(said, secret) {
				t.Errorf("%s: the sentence gives away %q: %s", step.value, secret, said)
			}
		}
	}
	set("of-namespace")
	if said, err := kubectl(t, nil, "label", "namespace", ns, "team=orders"); err != nil || strings.Contains(said, "Warning") {
		t.Errorf("another label: %v: %s", err, said)
	}
	for i := range 3 { // restarted
		must(t, cluster.Client.Delete(testContext(t), pod(ns, fmt.Sprintf("before-%d", i))))
		created(t, cluster, pod(ns, fmt.Sprintf("after-%d", i)))
	}
	eventually(t, "no Pod predates the label", func() bool {
		set("none")
		return !strings.Contains(set("of-namespace"), "Warning")
	})
	if said := set("second"); !strings.Contains(said, "3 Pods of Namespace") {
		t.Errorf("another policy: %s", said)
	}
}

// TestALabelledServiceAccountIsAnswered reads what kubectl label shows.
func TestALabelledServiceAccountIsAnswered(t *testing.T) {
	ns := newNamespace(t, cluster, nil, "api-sa", "other")
	newPolicy(t, cluster, "of-account", subject(ns, "api-sa"))
	created(t, cluster, pod(ns, "before"))
	created(t, cluster, pod(ns, "another", account("other")))
	created(t, cluster, pod(ns, "own", label("bucket-access.io/policy", "of-account")))
	ended := created(t, cluster, pod(ns, "ended"))
	ended.Status.Phase = corev1.PodFailed
	must(t, cluster.Client.Status().Update(testContext(t), ended))
	said, err := kubectl(t, nil, "-n", ns, "label", "serviceaccount", "api-sa", "bucket-access.io/policy=of-account")
	if err != nil || !strings.Contains(said, `1 Pod of ServiceAccount "api-sa" predates the label`) || !strings.Contains(said, "kubectl -n "+ns+" rollout restart") {
		t.Errorf("%v: %s", err, said)
	}
	if said, err := kubectl(t, nil, "-n", ns, "label", "serviceaccount", "api-sa", "team=orders"); err != nil || strings.Contains(said, "Warning") {
		t.Errorf("another label: %v: %s", err, said)
	}
}

// podCounts is what the replicas together say of a policy's Pods: only the leader counts.
func podCounts(t *testing.T, policy string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, r := range cluster.Replicas() {
		for state, number := range podCountsOf(t, r, policy) {
			counts[state] += number
		}
	}
	return counts
}

// podCountsOf is what one replica says.
func podCountsOf(t *testing.T, r *lab.Replica, policy string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	response, err := http.Get(r.Metrics)
	if err != nil {
		return counts // it was ended by another test
	}
	text, err := io.ReadAll(response.Body)
	must(t, errors.Join(err, response.Body.Close()))
	for _, found := range regexp.MustCompile(`(?m)^bucket_access_pods\{policy="`+policy+`",state="(\w+)"\} (\d+)$`).FindAllStringSubmatch(string(text), -1) {
		number, err := strconv.Atoi(found[2])
		must(t, err)
		counts[found[1]] += number
	}
	return counts
}

// TestPodsAreCountedThroughTheLifeOfAPolicy follows the metric through label, change and revocation.
func TestPodsAreCountedThroughTheLifeOfAPolicy(t *testing.T) {
	ns := newNamespace(t, cluster, nil, "api-sa", "second", "unlisted")
	document := func(bucket string, accounts ...string) *corev1.ConfigMap {
		subjects := make([]string, len(accounts))
		for i, name := range accounts {
			subjects[i] = subject(ns, name)
		}
		return policyConfigMap("counted", strings.Replace(policyDocument(strings.Join(subjects, ", ")), "orders-data", bucket, 1))
	}
	ctx, cancel := contextFor(4 * time.Minute)
	defer cancel()
	must(t, cluster.Client.Create(ctx, document("orders-data", "api-sa", "second")))
	t.Cleanup(func() { _ = cluster.Client.Delete(context.Background(), policyConfigMap("counted", "")) })
	counted := func(when string, current, outdated, uninjected, revoked int) {
		t.Helper()
		want := map[string]int{"current": current, "outdated": outdated, "uninjected": uninjected, "revoked": revoked}
		var got map[string]int
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if got = podCounts(t, "counted"); maps.Equal(got, want) || len(got) == 0 && current+outdated+uninjected+revoked == 0 {
				return
			}
		}
		t.Fatalf("%s: %v; want %v", when, got, want)
	}
	create := func(names ...string) {
		t.Helper()
		for _, name := range names {
			created(t, cluster, pod(ns, name))
		}
	}
	create("a", "b")
	created(t, cluster, pod(ns, "c", account("second")))
	created(t, cluster, pod(ns, "d", account("unlisted")))
	created(t, cluster, pod(ns, "e", label("bucket-access.io/policy", "none")))
	counted("before the label", 0, 0, 0, 0)

	said, err := kubectl(t, nil, "label", "namespace", ns, "bucket-access.io/policy=counted")
	if err != nil || !strings.Contains(said, "4 Pods") {
		t.Errorf("%v: %s", err, said)
	}
	counted("after the label", 0, 0, 3, 0) // neither the unlisted ServiceAccount's nor who declined

	for _, name := range []string{"a", "b"} {
		must(t, cluster.Client.Delete(ctx, pod(ns, name)))
	}
	create("a", "b")
	counted("two restarted", 2, 0, 1, 0)

	must(t, cluster.Client.Update(ctx, document("orders-moved", "api-sa", "second")))
	counted("after a change", 0, 2, 1, 0)
	must(t, cluster.Client.Delete(ctx, pod(ns, "a")))
	create("a")
	counted("one restarted", 1, 1, 1, 0)

	must(t, cluster.Client.Update(ctx, document("orders-moved", "second")))
	counted("after a revocation", 0, 0, 1, 2)
	ended := pod(ns, "b")
	must(t, cluster.Client.Get(ctx, client.ObjectKeyFromObject(ended), ended))
	ended.Status.Phase = corev1.PodSucceeded
	must(t, cluster.Client.Status().Update(ctx, ended))
	counted("one ended", 0, 0, 1, 1)

	base := podCounts(t, "none")["revoked"] // of the tests before, which have been counted by now
	must(t, cluster.Client.Delete(ctx, policyConfigMap("counted", "")))
	counted("after the policy is gone", 0, 0, 0, 0)
	eventually(t, "the Pod of a policy that is gone is revoked", func() bool { return podCounts(t, "none")["revoked"] == base+1 })

	// By a ServiceAccount's label; of the Pods above, one still has what the new policy gives to another.
	other := newNamespace(t, cluster, nil, "api-sa")
	must(t, cluster.Client.Create(ctx, policyConfigMap("counted", policyDocument(subject(other, "api-sa")))))
	created(t, cluster, pod(other, "a"))
	created(t, cluster, pod(other, "b", account("default")))
	if said, err := kubectl(t, nil, "-n", other, "label", "serviceaccount", "api-sa", "bucket-access.io/policy=counted"); err != nil {
		t.Fatal(said)
	}
	counted("after a ServiceAccount's label", 0, 0, 1, 1)
}
