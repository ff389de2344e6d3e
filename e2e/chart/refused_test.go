package chart

import (
	"regexp"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/e2e/chart/matrix"
)

func TestWrongValuesAreRefusedByTheirPath(t *testing.T) {
	for _, wrong := range []struct{ values, path string }{
		{"replica: 3", "replica"},
		{"replicas: 0", "/replicas"},
		{"replicas: two", "/replicas"},
		{"certificates: {mode: selfSigned}", "/certificates/mode"},
		{"certificates: {managed: {duration: 7d}}", "/certificates/managed/duration"},
		{"certificates: {certManager: {issuerRef: {kind: ClusterIssuer}}}", "/certificates/certManager/issuerRef"},
		{"serviceAccountPods: {mode: policy}", "/serviceAccountPods/mode"},
		{"admission: {pods: {failurePolicy: fail}}", "/admission/pods/failurePolicy"},
		{"admission: {pods: {timeoutSeconds: 31}}", "/admission/pods/timeoutSeconds"},
		{"admission: {pod: {timeoutSeconds: 3}}", "/admission"},
		{"resources: {limits: {cpu: 1}}", "/resources/limits"},
		{"resources: {limits: {memory: 1.5Gi}}", "/resources/limits/memory"},
		{"excludedNamespaces: kube-system", "/excludedNamespaces"},
		{"excludedNamespaces: [Kube_System]", "/excludedNamespaces/0"},
		{"policies: {orders: {bucket: orders-data}}", "/policies/orders"},
		{"policies: {none: {bucket: b, region: r, roleARN: a, subjects: []}}", "/policies/none"},
		{"policies: {-x: {bucket: b, region: r, roleARN: a, subjects: []}}", "/policies"},
		{"image: {digest: latest}", "/image/digest"},
		{"ports: {webhook: 70000}", "/ports/webhook"},
		{"commonLabels: {a: 1}", "/commonLabels/a"},
		{"podLabels: {app.kubernetes.io/name: mine}", "/podLabels/app.kubernetes.io~1name"},
		{"extraArgs: [log-level=debug]", "/extraArgs/0"},
		{"log: {level: trace}", "/log/level"},
		{"podDisruptionBudget: {minAvailable: half}", "/podDisruptionBudget/minAvailable"},
		{"viewer: {subjects: [{kind: Role, name: x}]}", "/viewer/subjects/0/kind"},
		{"metrics: {serviceMonitor: {interval: 30}}", "/metrics/serviceMonitor/interval"},
		{"tests: {namespace: ''}", "/tests/namespace"},
	} {
		t.Run(wrong.values, func(t *testing.T) {
			t.Parallel()
			for _, helm := range helms() {
				_, err := run(t, helm, wrong.values, "template", release, directory, "--namespace", namespace)
				if err == nil || !strings.Contains(err.Error(), wrong.path) {
					t.Errorf("%s: it must be refused and %s be named; got: %v", helm, wrong.path, err)
				}
			}
		})
	}
}

func TestHelmLintIsClean(t *testing.T) {
	for _, helm := range helms() {
		for _, text := range []string{"", matrix.Everything, "certificates: {mode: certManager}"} {
			out, err := run(t, helm, text, "lint", "--strict", directory)
			if err != nil || regexp.MustCompile(`\[(WARNING|ERROR)\]`).MatchString(out) {
				t.Errorf("%s lint: %v\n%s", helm, err, out)
			}
		}
	}
}

func TestNotesSayWhatIsRiskyAndWhatIsNext(t *testing.T) {
	const policy = "serviceAccountPods: {mode: Policy}\n"
	for _, note := range []struct{ values, want, not string }{
		{policy, "There are no policies in the values", "WARNING"},
		{policy + matrix.TwoPolicies, "bucket-access.io/policy=123", "There are no policies"},
		{policy + "replicas: 3", "helm test bucket-access -n bucket-access-system\n", "WARNING"},
		{policy + "replicas: 1", "WARNING: replicas is 1", ""},
		{"serviceAccountPods: {mode: Webhook}", "WARNING: serviceAccountPods.mode is Webhook", "replicas is"},
		{policy + "admission: {pods: {failurePolicy: Ignore}}", "WARNING: admission.pods.failurePolicy is Ignore", "start without their bucket. Set"},
		{policy + "admission: {pods: {failurePolicy: Ignore}, namespacedPods: {failurePolicy: Ignore}}\nbackstops: {enabled: false}",
			"WARNING: admission.pods.failurePolicy and admission.namespacedPods.failurePolicy are Ignore", "refused by the backstops"},
		{"serviceAccountPods: {mode: Policy, failurePolicy: Ignore}", "WARNING: serviceAccountPods.failurePolicy is Ignore", ""},
		{policy + "backstops: {enabled: false}", "WARNING: backstops.enabled is false", ""},
		{policy + "hostNetwork: true", "WARNING: hostNetwork is true", ""},
		{policy + "metrics: {enabled: false, podMonitor: {enabled: true}}", "WARNING: metrics.enabled is false", "scraped twice"},
		{policy + "metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}", "everything is scraped twice", "metrics.enabled is false"},
		{policy + "certificates: {mode: external}", "WARNING: certificates.mode is external", ""},
		{policy + "certificates: {mode: external, external: {caKey: ca.crt}}", "see that the Secret bucket-access-webhook-tls has", "WARNING"},
	} {
		t.Run(note.want, func(t *testing.T) {
			t.Parallel()
			// Helm 3 shows notes only where it reaches a cluster.
			out, err := run(t, "helm", note.values, "install", release, directory, "--dry-run=client", "--namespace", namespace)
			if err != nil {
				t.Fatal(err)
			}
			_, out, found := strings.Cut(out, "NOTES:")
			if !found || !strings.Contains(out, note.want) || note.not != "" && strings.Contains(out, note.not) {
				t.Errorf("the notes must say %q and not %q:\n%s", note.want, note.not, out)
			}
		})
	}
}
