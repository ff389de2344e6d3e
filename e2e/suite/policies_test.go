package suite

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

func TestABadPolicyIsRefusedWithAllItsErrors(t *testing.T) {
	configMap := policyConfigMap("bad", "bucket: Not_A_Bucket\nregion: 5\ncolour: blue\n")
	configMap.Data["good"] = policyDocument(subject("*", "api-sa"))
	configMap.APIVersion, configMap.Kind = "v1", "ConfigMap"
	said, err := apply(t, cluster, configMap)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"has 7 errors and was not changed", "data[bad].bucket: Invalid value", "(line 1)", "data[bad].region", "put it in quotes", "data[bad].colour: Forbidden: unknown key",
		"data[bad].apiVersion: Required value", "data[bad].kind", "data[bad].roleARN: Required value", "data[bad].subjects: Required value",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in: %s", want, said)
		}
	}
}

func TestPoliciesChangeLive(t *testing.T) {
	newPolicy(t, cluster, "live", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil, "api-sa")
	bucket := func() string {
		p := pod(ns, "probe", label("bucket-access.io/policy", "live"))
		if err := cluster.Client.Create(testContext(t), p, client.DryRunAll); err != nil {
			return err.Error()
		}
		for _, e := range p.Spec.Containers[0].Env {
			if e.Name == "BUCKET_NAME" {
				return e.Value
			}
		}
		return "none"
	}
	start := time.Now()
	must(t, cluster.Client.Update(testContext(t), policyConfigMap("live", strings.Replace(policyDocument(subject("*", "api-sa")), "orders-data", "orders-moved", 1))))
	eventually(t, "the changed policy is in force", func() bool { return bucket() == "orders-moved" })
	t.Logf("a change was in force after %s", time.Since(start).Round(time.Millisecond))
	start = time.Now()
	must(t, cluster.Client.Delete(testContext(t), policyConfigMap("live", "")))
	eventually(t, "the deleted policy is gone", func() bool { return strings.Contains(bucket(), "which does not exist") })
	t.Logf("a deletion was in force after %s", time.Since(start).Round(time.Millisecond))
}

// TestEachErrorOfAPolicyGetsItsEvent: two data keys that are broken alike, and then one of
// them in another way. The webhook refuses such edits, so its configuration steps aside, as
// for an administrator who got past it.
func TestEachErrorOfAPolicyGetsItsEvent(t *testing.T) {
	l, err := start("")
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	must(t, l.Client.Delete(testContext(t), &registrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}))
	configMap := policyConfigMap("broken", "bucket: first_error")
	configMap.Data["broken-too"] = "bucket: first_error"
	// The API server calls the webhook until it has seen that its configuration is gone.
	eventually(t, "a broken policy is let in", func() bool { return l.Client.Create(testContext(t), configMap.DeepCopy()) == nil })
	says := func(what string, wants ...string) {
		t.Helper()
		eventually(t, what, func() bool {
			said := eventsOf(t, l, lab.Namespace, configMap.Name)
			return !slices.ContainsFunc(wants, func(want string) bool { return !strings.Contains(said, want) })
		})
	}
	says("an Event for each key", "data[broken].bucket", "data[broken-too].bucket", "first_error")
	configMap.Data["broken"] = "bucket: second_error"
	must(t, l.Client.Update(testContext(t), configMap))
	says("an Event for the other error", "second_error")
}

func TestServiceAccountsFollowTheirPolicy(t *testing.T) {
	newPolicy(t, cluster, "accounts", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil)
	sa := labelledAccount(ns, "api-sa", "accounts", map[string]string{"team": "orders"})
	must(t, cluster.Client.Create(testContext(t), sa))
	const role, expiration = "eks.amazonaws.com/role-arn", "eks.amazonaws.com/token-expiration"
	if sa.Annotations[role] != "arn:aws:iam::222222222222:role/s3-reader-role" || sa.Annotations["eks.amazonaws.com/audience"] != "sts.amazonaws.com" ||
		sa.Annotations["eks.amazonaws.com/sts-regional-endpoints"] != "true" || sa.Annotations[expiration] != "3600" || sa.Annotations["bucket-access.io/managed"] == "" {
		t.Fatalf("annotations on CREATE: %v", sa.Annotations)
	}
	now := func() map[string]string {
		var current corev1.ServiceAccount
		must(t, cluster.Client.Get(testContext(t), client.ObjectKeyFromObject(sa), &current))
		return current.Annotations
	}
	must(t, cluster.Client.Update(testContext(t), policyConfigMap("accounts", policyDocument(subject("*", "api-sa"), "tokenExpirationSeconds: 900"))))
	eventually(t, "the annotation follows the policy", func() bool { return now()[expiration] == "900" })

	// What GitOps takes away comes back; what a user wrote is refused.
	_, _, err := cluster.Kubectl(testContext(t), "", "-n", ns, "annotate", "sa", "api-sa", role+"-")
	must(t, err)
	if now()[role] == "" {
		t.Error("a removed annotation did not come back at once")
	}
	_, said, err := cluster.Kubectl(testContext(t), "", "-n", ns, "annotate", "sa", "api-sa", "--overwrite", role+"="+roleA)
	if err == nil || !strings.Contains(said, "remove the annotation") {
		t.Errorf("another role was accepted: %s", said)
	}

	// A subject that is delisted loses what we wrote, and nothing else.
	must(t, cluster.Client.Update(testContext(t), policyConfigMap("accounts", policyDocument(subject("elsewhere", "api-sa")))))
	eventually(t, "a delisted ServiceAccount loses the role", func() bool { return now()[role] == "" })
	must(t, cluster.Client.Update(testContext(t), policyConfigMap("accounts", policyDocument(subject("*", "api-sa")))))
	eventually(t, "a listed ServiceAccount gets the role", func() bool { return now()[role] != "" })
	must(t, cluster.Client.Delete(testContext(t), policyConfigMap("accounts", "")))
	eventually(t, "with the policy the role goes", func() bool { return now()[role] == "" && now()["bucket-access.io/managed"] == "" })
	if now()["team"] != "orders" {
		t.Error("a user's annotation went too")
	}
	events := func() string { return eventsOf(t, cluster, ns, "api-sa") }
	eventually(t, "an Event says why", func() bool { return strings.Contains(events(), "which does not exist") })
	_, _, err = cluster.Kubectl(testContext(t), "", "-n", ns, "label", "sa", "api-sa", "bucket-access.io/policy-")
	must(t, err)
}

// TestEachRefusalOfAServiceAccountGetsItsEvent: what is wrong with it may change with its
// policy alone, and so often that client-go would make one Event of them that is counted.
func TestEachRefusalOfAServiceAccountGetsItsEvent(t *testing.T) {
	newPolicy(t, cluster, "refusals", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil)
	must(t, cluster.Client.Create(testContext(t), labelledAccount(ns, "api-sa", "refusals", nil)))
	for _, listed := range []string{"first-sa", "second-sa", "third-sa"} {
		must(t, cluster.Client.Update(testContext(t), policyConfigMap("refusals", policyDocument(subject(ns, listed)))))
		eventually(t, "an Event names "+listed, func() bool { return strings.Contains(eventsOf(t, cluster, ns, "api-sa"), "it lists "+listed) })
	}
}

func TestRemovingTheLabelOfAServiceAccountRemovesWhatWasWritten(t *testing.T) {
	newPolicy(t, cluster, "unlabel", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil)
	sa := labelledAccount(ns, "api-sa", "unlabel", map[string]string{"eks.amazonaws.com/token-expiration": "7200"})
	must(t, cluster.Client.Create(testContext(t), sa))
	sa.Labels = nil
	must(t, cluster.Client.Update(testContext(t), sa))
	if len(sa.Annotations) != 1 || sa.Annotations["eks.amazonaws.com/token-expiration"] != "7200" {
		t.Fatalf("annotations: %v", sa.Annotations)
	}
}

// eventsOf joins the notes of the Events on an object.
func eventsOf(t *testing.T, l *lab.Lab, ns, name string) string {
	t.Helper()
	clients, err := kubernetes.NewForConfig(l.Config)
	must(t, err)
	list, err := clients.EventsV1().Events(ns).List(testContext(t), metav1.ListOptions{})
	must(t, err)
	var notes []string
	for _, event := range list.Items {
		if event.Regarding.Name == name {
			notes = append(notes, event.Reason+": "+event.Note)
		}
	}
	return strings.Join(notes, "\n")
}

func TestDebugContainersGetWhatTheirPodHas(t *testing.T) {
	newPolicy(t, cluster, "debug", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil, "api-sa")
	clients, err := kubernetes.NewForConfig(cluster.Config)
	must(t, err)
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"in an injected Pod":         {pod(ns, "injected", label("bucket-access.io/policy", "debug")), true},
		"in a Pod that is not":       {pod(ns, "plain"), false},
		"in a Pod that claims to be": {pod(ns, "forged", label("bucket-access.io/injected", "debug")), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := created(t, cluster, test.pod)
			for _, container := range []string{"debug-1", "debug-2"} {
				p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
					EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: container, Image: "busybox"},
				})
				p, err = clients.CoreV1().Pods(ns).UpdateEphemeralContainers(testContext(t), p.Name, p, metav1.UpdateOptions{})
				must(t, err)
			}
			for _, c := range p.Spec.EphemeralContainers {
				if got := len(c.Env) > 5 && len(c.VolumeMounts) == 1; got != test.want {
					t.Errorf("%s: env %v, mounts %v", c.Name, c.Env, c.VolumeMounts)
				}
			}
		})
	}
}

func TestMetricsAreClosedSets(t *testing.T) {
	response, err := http.Get(cluster.Replicas()[0].Metrics)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	for _, name := range []string{
		"bucket_access_admissions_total{entry=", "bucket_access_admission_duration_seconds_bucket{entry=", "bucket_access_policies{state=\"valid\"}",
		"bucket_access_certificate_expiry_timestamp_seconds", "bucket_access_live_reads_total", "bucket_access_serviceaccount_reconciles_total",
	} {
		both := string(body)
		if !strings.Contains(both, name) {
			other, err := http.Get(cluster.Replicas()[1].Metrics)
			must(t, err)
			more, _ := io.ReadAll(other.Body)
			_ = other.Body.Close()
			if !strings.Contains(string(more), name) {
				t.Errorf("no replica shows %s", name)
			}
		}
	}
}
