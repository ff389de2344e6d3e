package suite

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// injected returns how the Pod lacks injection, or nothing.
func lacksInjection(p *corev1.Pod, policy string) string {
	var missing []string
	check := func(ok bool, what string) {
		if !ok {
			missing = append(missing, what)
		}
	}
	check(p.Labels["bucket-access.io/injected"] == policy, "label injected")
	check(p.Annotations["bucket-access.io/status"] != "", "annotation status")
	volume := false
	for _, v := range p.Spec.Volumes {
		volume = volume || v.Name == "aws-iam-token" && v.Projected != nil && v.Projected.Sources[0].ServiceAccountToken.Audience == "sts.amazonaws.com"
	}
	check(volume, "token volume")
	for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
		values := map[string]string{}
		for _, e := range c.Env {
			values[e.Name] = e.Value
		}
		check(values["AWS_ROLE_ARN"] == "arn:aws:iam::222222222222:role/s3-reader-role", c.Name+" role")
		check(values["AWS_WEB_IDENTITY_TOKEN_FILE"] == "/var/run/secrets/eks.amazonaws.com/serviceaccount/token", c.Name+" token file")
		check(values["BUCKET_NAME"] == "orders-data", c.Name+" bucket")
		check(values["AWS_REGION"] == "eu-west-1" && values["AWS_DEFAULT_REGION"] == "eu-west-1", c.Name+" region")
		mounted := false
		for _, m := range c.VolumeMounts {
			mounted = mounted || m.Name == "aws-iam-token" && m.ReadOnly && m.MountPath == "/var/run/secrets/eks.amazonaws.com/serviceaccount"
		}
		check(mounted, c.Name+" mount")
	}
	return strings.Join(missing, ", ")
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
