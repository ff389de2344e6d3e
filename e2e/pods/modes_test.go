package pods

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

func helm(t *testing.T, args ...string) string {
	t.Helper()
	said, err := c.Helm(testContext(t), 4, append(args, "-n", lab.Namespace)...)
	must(t, err)
	return said
}

// TestEveryCertificateMode installs the release on a cluster without it, in each mode, tries
// it by helm test and by Pods, upgrades, rolls back and uninstalls while Pods run.
func TestEveryCertificateMode(t *testing.T) {
	helm(t, "uninstall", release, "--wait")
	t.Cleanup(func() { // for the tests that come after
		must(t, install(testContext(t), "managed"))
		waitReplicas(t, 2)
	})
	for mode, prepare := range map[string]func(*testing.T){
		"managed": func(*testing.T) {},
		"certManager": func(t *testing.T) {
			t.Helper()
			stop, err := c.StartCertManager(testContext(t))
			must(t, err)
			t.Cleanup(stop)
		},
		"external": func(t *testing.T) {
			t.Helper()
			data, err := lab.ServingPair()
			must(t, err)
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: ownSecret}, Data: data}
			must(t, client.IgnoreAlreadyExists(c.Client.Create(testContext(t), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: lab.Namespace}})))
			must(t, c.Client.Create(testContext(t), secret))
			t.Cleanup(func() { _ = c.Client.Delete(context.WithoutCancel(t.Context()), secret) })
		},
	} {
		t.Run(mode, func(t *testing.T) {
			prepare(t)
			must(t, install(testContext(t), mode))
			waitReplicas(t, 2)
			if said := helm(t, "test", release); !strings.Contains(said, "Succeeded") {
				t.Errorf("helm test said: %s", said)
			}
			namespace := newNamespace(t, policyLabel, "e2e")
			reads := func(name string) {
				t.Helper()
				within(t, 30*time.Second, "an injected Pod", func() string {
					p := pod(namespace, name)
					if err := c.Client.Create(context.Background(), p, client.DryRunAll); err != nil {
						return err.Error()
					}
					if injectedWith(p) != "e2e" {
						return "it is not injected"
					}
					return ""
				})
				must(t, c.Client.Create(testContext(t), pod(namespace, name)))
				wantRead(t, namespace, name, "app")
			}
			reads("installed")
			must(t, install(testContext(t), mode, "--set", "log.level=info"))
			waitReplicas(t, 2)
			reads("upgraded")
			helm(t, "rollback", release, "1", "--wait")
			waitReplicas(t, 2)
			reads("rolled-back")
			uninstalled(t, namespace)
		})
	}
}

// uninstalled takes the release away and looks at what is left: Pods that run go on
// reading, and new ones start as if there had never been a webhook.
func uninstalled(t *testing.T, namespace string) {
	t.Helper()
	must(t, c.Client.Create(testContext(t), pod(namespace, "outlives", func(p *corev1.PodTemplateSpec) {
		p.Spec.Containers[0].Args = []string{"-every=2s", c.Bucket.Key}
	})))
	wantRead(t, namespace, "outlives", "app")
	helm(t, "uninstall", release, "--wait")
	gone := time.Now()
	within(t, time.Minute, "a Pod that asks starts as any other", func() string {
		p := pod(namespace, "after", labelled(policyLabel, "e2e"))
		if err := c.Client.Create(context.Background(), p, client.DryRunAll); err != nil {
			return err.Error()
		}
		if injectedWith(p) != "" {
			return "it is injected"
		}
		return ""
	})
	within(t, time.Minute, "the Pod that runs goes on reading", func() string {
		all, wrong := lines(t, namespace, "outlives", "app")
		if wrong != "" {
			return wrong
		}
		if last := all[len(all)-1]; last.Body != c.Bucket.Content || last.At.Before(gone) {
			return "its last reading was at " + last.At.String() + ": " + last.Error
		}
		return ""
	})
	for _, kind := range []string{"mutatingwebhookconfiguration", "validatingwebhookconfiguration", "mutatingadmissionpolicy", "validatingadmissionpolicy"} {
		if left := kubectl(t, "get", kind, "-o", "name"); strings.Contains(left, "bucket-access") {
			t.Errorf("left: %s", left)
		}
	}
}
