package suite

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestEachMistakeIsAnsweredWithASentence goes through the mistakes of the usual IRSA
// checklist and reads what kubectl shows.
func TestEachMistakeIsAnsweredWithASentence(t *testing.T) {
	ns := newNamespace(t, cluster, nil, "api-sa", "worker")
	labelled := newNamespace(t, cluster, map[string]string{"bucket-access.io/policy": "mistakes"}, "api-sa")
	newPolicy(t, cluster, "mistakes", strings.Join([]string{
		subject(ns, "api-sa"), subject(ns, "worker"), subject(labelled, "api-sa"), subject("payments-of-another-team", "ledger-sa"),
	}, ", "))
	newPolicy(t, cluster, "another-cluster", subject(ns, "api-sa"), "issuer: https://oidc.eks.eu-west-1.amazonaws.com/id/ANOTHER")
	asks := label("bucket-access.io/policy", "mistakes")

	for name, test := range map[string]struct {
		object  any
		refused bool
		want    []string
	}{
		"the default ServiceAccount": {pod(ns, "default-account", asks, account("default")), true, []string{
			"does not list system:serviceaccount:" + ns + ":default", "it lists api-sa, worker", "set the Pod's serviceAccountName",
		}},
		"a namespace that is not listed": {pod("default", "wrong-namespace", asks, account("default")), true, []string{
			"does not list system:serviceaccount:default:default", `of namespace "default" it lists none`, "(and 4 others elsewhere)",
		}},
		"another cluster's issuer": {pod(ns, "issuer", label("bucket-access.io/policy", "another-cluster")), true, []string{"token issuer", "correct the policy's issuer"}},
		"static keys": {pod(ns, "static", asks, env("AWS_ACCESS_KEY_ID", "AKIASECRETVALUE")), true, []string{
			`container "app" sets AWS_ACCESS_KEY_ID`, "every AWS SDK prefers", "remove it",
		}},
		"static keys, asked for by the Namespace": {pod(labelled, "static", env("AWS_ACCESS_KEY_ID", "AKIASECRETVALUE")), false, []string{
			"Warning: bucket-access:", "AWS_ACCESS_KEY_ID", "goes through without bucket access",
		}},
		"an unknown policy on a Pod": {pod(ns, "unknown", label("bucket-access.io/policy", "mistaeks")), true, []string{
			`names policy "mistaeks", which does not exist`, "correct the label's value",
		}},
		"an empty policy": {pod(ns, "empty", label("bucket-access.io/policy", "")), true, []string{`names policy ""`}},
		"another role":    {pod(ns, "role", asks, env("AWS_ROLE_ARN", roleA)), true, []string{`container "app" sets AWS_ROLE_ARN to another value`, "remove it"}},
		"a volume of that name": {pod(ns, "volume", asks, func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "aws-iam-token", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}), true, []string{`volume "aws-iam-token" is not a projected ServiceAccount token`, "rename or remove"}},
		"a token lifetime out of range": {pod(ns, "expiration", asks, annotation("eks.amazonaws.com/token-expiration", "60")), true, []string{
			`is "60"`, "from 600 to 86400",
		}},
		"spaces in skip-containers": {pod(ns, "spaces", asks, annotation("bucket-access.io/skip-containers", "x, app")), false, []string{
			`no container is named "x", " app"`, "without spaces",
		}},
		"an unknown policy on a ServiceAccount": {labelledAccount(ns, "unknown", "mistaeks", nil), true, []string{`on the ServiceAccount names policy "mistaeks"`}},
		"a ServiceAccount that is not listed":   {labelledAccount(ns, "unlisted", "mistakes", nil), true, []string{"does not list system:serviceaccount:" + ns + ":unlisted"}},
		"a ServiceAccount with another role": {labelledAccount("default", "conflict", "mistakes", map[string]string{"eks.amazonaws.com/role-arn": roleA}), true, []string{
			"does not list",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := apply(t, cluster, test.object)
			if (err != nil) != test.refused {
				t.Fatalf("refused: %t; said %s", err != nil, said)
			}
			for _, want := range test.want {
				if !strings.Contains(said, want) {
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

func labelledAccount(ns, name, policy string, annotations map[string]string) *corev1.ServiceAccount {
	return &corev1.ServiceAccount{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns, Name: name, Labels: map[string]string{"bucket-access.io/policy": policy}, Annotations: annotations,
		},
	}
}

// TestTheAudienceIsOneField: volume and ServiceAccount can't disagree.
func TestTheAudienceIsOneField(t *testing.T) {
	newPolicy(t, cluster, "audience", subject("*", "api-sa"), "audience: my-audience")
	ns := newNamespace(t, cluster, nil)
	sa := labelledAccount(ns, "api-sa", "audience", nil)
	must(t, cluster.Client.Create(testContext(t), sa))
	p := created(t, cluster, pod(ns, "app"))
	for _, v := range p.Spec.Volumes {
		if v.Name == eksVolume {
			if got := v.Projected.Sources[0].ServiceAccountToken.Audience; got != "my-audience" || sa.Annotations["eks.amazonaws.com/audience"] != got {
				t.Fatalf("volume %q, ServiceAccount %q", got, sa.Annotations["eks.amazonaws.com/audience"])
			}
			return
		}
	}
	t.Fatal("no token volume")
}

func TestALabelOnARunningPodIsRefused(t *testing.T) {
	newPolicy(t, cluster, "running", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil, "api-sa")
	created(t, cluster, pod(ns, "app"))
	created(t, cluster, pod(ns, "injected", label("bucket-access.io/policy", "running")))
	kubectl := func(args ...string) (string, error) {
		stdout, stderr, err := cluster.Kubectl(testContext(t), "", append([]string{"-n", ns, "label", "pod"}, args...)...)
		return stdout + stderr, err
	}
	for _, args := range [][]string{{"app", "bucket-access.io/policy=running"}, {"injected", "bucket-access.io/policy=none", "--overwrite"}} {
		if said, err := kubectl(args...); err == nil || !strings.Contains(said, "a Pod that already runs can not be given access") ||
			!strings.Contains(said, "spec.template.metadata.labels") {
			t.Errorf("%v: %v %s", args, err, said)
		}
	}
	for _, args := range [][]string{{"app", "team=orders"}, {"injected", "team=orders"}, {"injected", "bucket-access.io/policy-"}} {
		if said, err := kubectl(args...); err != nil {
			t.Errorf("%v: %s", args, said)
		}
	}
}

func TestOptingOut(t *testing.T) {
	newPolicy(t, cluster, "opt-out", subject("*", "*"))
	ns := newNamespace(t, cluster, map[string]string{"bucket-access.io/policy": "opt-out"}, "api-sa")
	must(t, cluster.Client.Create(testContext(t), labelledAccount(ns, "batch", "none", nil)))
	for name, p := range map[string]*corev1.Pod{
		"by the Pod":            pod(ns, "a", label("bucket-access.io/policy", "none")),
		"by the ServiceAccount": pod(ns, "b", account("batch")),
	} {
		if got := created(t, cluster, p).Labels["bucket-access.io/injected"]; got != "" {
			t.Errorf("%s: injected %s", name, got)
		}
	}
	if lacks := lacksInjection(created(t, cluster, pod(ns, "c", account("batch"), label("bucket-access.io/policy", "opt-out"))), "opt-out"); lacks != "" {
		t.Errorf("the Pod's own label counts before the ServiceAccount's none; lacks %s", lacks)
	}
	system := pod("kube-system", "untouched", label("bucket-access.io/policy", "unknown"))
	must(t, cluster.EnsureDefaultAccount(testContext(t), "kube-system"))
	system.Spec.ServiceAccountName = "default"
	if got := created(t, cluster, system); len(got.Spec.Containers[0].Env) > 0 {
		t.Error("a Pod of kube-system was changed")
	}
}

func TestThingsAppliedTogetherNeverMiss(t *testing.T) {
	together(t, cluster, 25)
}

// together creates a policy, a Namespace, a ServiceAccount and a Pod back to back.
func together(t *testing.T, l *lab.Lab, rounds int) {
	t.Helper()
	for i := range rounds {
		ns := fmt.Sprintf("together-%d-%d", time.Now().UnixNano(), i)
		name := ns
		configMap := policyConfigMap(name, policyDocument(subject(ns, "*")))
		configMap.APIVersion, configMap.Kind = "v1", "ConfigMap"
		namespace := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{
			Name: ns, Labels: map[string]string{"bucket-access.io/policy": name},
		}}
		plain := labelledAccount(ns, "plain", "", nil)
		plain.Labels = nil
		byAccount, byPod, byNamespace := pod(ns, "by-account"), pod(ns, "by-pod", account("plain"),
			label("bucket-access.io/policy", name)), pod(ns, "by-namespace", account("plain"))
		ctx := testContext(t)
		must(t, l.Client.Create(ctx, configMap))
		must(t, l.Client.Create(ctx, namespace))
		must(t, l.Client.Create(ctx, plain))
		must(t, l.Client.Create(ctx, byPod))
		must(t, l.Client.Create(ctx, byNamespace))
		must(t, l.Client.Create(ctx, labelledAccount(ns, "api-sa", name, nil)))
		must(t, l.Client.Create(ctx, byAccount))
		for _, p := range []*corev1.Pod{byAccount, byPod, byNamespace} {
			if lacks := lacksInjection(p, name); lacks != "" {
				t.Fatalf("round %d, %s lacks %s", i, p.Name, lacks)
			}
		}
		must(t, l.Client.Delete(ctx, configMap))
	}
}
