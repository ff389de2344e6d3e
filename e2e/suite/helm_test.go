package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/chart/matrix"
	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const chart = "charts/bucket-access-webhook"

// faultsPolicy is a chart's value: the policy "faults", for everybody.
const faultsPolicy = `policies={"faults": {"bucket": "orders-data", "region": "eu-west-1", "roleARN": "arn:aws:iam::222222222222:role/s3-reader-role", "subjects": [{"namespace": "*", "serviceAccount": "*"}]}}`

// fixture is a copy of the chart with one template changed.
func fixture(t *testing.T, l *lab.Lab, template string, edit func(string) string) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "bucket-access-webhook")
	must(t, os.CopyFS(directory, os.DirFS(filepath.Join(l.Repository, chart))))
	path := filepath.Join(directory, "templates", template)
	before, err := os.ReadFile(path)
	must(t, err)
	after := edit(string(before))
	if after == string(before) {
		t.Fatal("the fixture is the chart itself")
	}
	must(t, os.WriteFile(path, []byte(after), 0o600))
	return directory
}

// oneMore adds an entry at the end; it is never called.
func oneMore(text string) string {
	return text + `- name: extra.bucket-access.io
  admissionReviewVersions: [v1]
  clientConfig:
    service: {namespace: {{ .Release.Namespace }}, name: bucket-access-webhook, port: 443, path: /mutate/pods}
  rules:
  - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods], scope: Namespaced}
  failurePolicy: Ignore
  sideEffects: None
  objectSelector: {matchLabels: {example.com/extra: "true"}}
`
}

// oneFewer takes an entry away from the middle.
func oneFewer(text string) string {
	start, end := strings.Index(text, "# kubectl debug in an injected Pod."), strings.Index(text, "# Labelled ServiceAccounts")
	return text[:start] + text[end:]
}

// entries are the names of the mutating entries, and those without a caBundle.
func entries(t *testing.T, l *lab.Lab) (names, bare []string) {
	t.Helper()
	var configuration registrationv1.MutatingWebhookConfiguration
	must(t, l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, &configuration))
	for i := range configuration.Webhooks {
		name, _, _ := strings.Cut(configuration.Webhooks[i].Name, ".")
		if names = append(names, name); len(configuration.Webhooks[i].ClientConfig.CABundle) == 0 {
			bare = append(bare, name)
		}
	}
	return names, bare
}

// ours lists every object of the cluster, of whatever kind, that has to do with the
// release; what the webhook itself makes may stay where it neither blocks nor mutates.
func ours(t *testing.T, l *lab.Lab) (found []string) {
	t.Helper()
	kinds, stderr, err := l.Kubectl(testContext(t), "", "api-resources", "--verbs=list", "-o", "name")
	if err != nil {
		t.Fatal(stderr)
	}
	all, stderr, err := l.Kubectl(testContext(t), "", "get", strings.Join(strings.Fields(kinds), ","), "-A", "--ignore-not-found", "-o", "name")
	if err != nil {
		t.Fatal(stderr)
	}
	for name := range strings.FieldsSeq(all) {
		if strings.Contains(name, "bucket-access") {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// askingNamespaces are one with a labelled ServiceAccount and one that is labelled itself.
func askingNamespaces(t *testing.T, l *lab.Lab) (plain, labelled string) {
	t.Helper()
	plain = newNamespace(t, l, nil, "api-sa")
	labelled = newNamespace(t, l, map[string]string{"bucket-access.io/policy": "faults"}, "api-sa")
	must(t, l.Client.Create(t.Context(), labelledAccount(plain, "labelled", "faults", nil)))
	return plain, labelled
}

// wantInjected creates Pods that ask by each of the three labels.
func wantInjected(t *testing.T, l *lab.Lab, plain, labelled string) {
	t.Helper()
	for way, p := range asking(plain, labelled, "injected") {
		eventually(t, "injected by "+way, func() bool {
			fresh := p.DeepCopy()
			return l.Client.Create(t.Context(), fresh, client.DryRunAll) == nil && lacksInjection(fresh, "faults") == ""
		})
	}
}

// TestHelm installs the chart by both versions of Helm, goes to a chart with one entry
// more and to one with one fewer and back, and uninstalls: the webhook writes caBundle
// into list items that Helm applies, and none of them is in the other's way.
func TestHelm(t *testing.T) {
	for _, major := range []int{4, 3} {
		t.Run(fmt.Sprintf("Helm %d", major), func(t *testing.T) {
			l, err := lab.Start(testContext(t), lab.Options{LogDir: os.Getenv("LOG_DIR"), Manifests: lab.None})
			must(t, err)
			t.Cleanup(func() { must(t, l.Stop()) })
			before := ours(t, l)
			helm := func(args ...string) string {
				t.Helper()
				said, err := l.Helm(testContext(t), major, append(args, "-n", lab.Namespace)...)
				must(t, err)
				return said
			}
			said := helm("install", "release", chart, "--create-namespace",
				"--set-json", faultsPolicy)
			if !strings.Contains(said, "bucket-access.io/policy=") {
				t.Errorf("the notes do not tell the next step: %s", said)
			}
			must(t, l.WebhookAccess(t.Context()))
			plain, labelled := askingNamespaces(t, l)
			for _, name := range []string{"one", "two"} {
				_, err := l.StartReplica(testContext(t), name)
				must(t, err)
			}
			wantInjected(t, l, plain, labelled)
			original, _ := entries(t, l)
			wantEntries := func(what string, want []string) {
				t.Helper()
				eventually(t, "every entry has a caBundle", func() bool { _, bare := entries(t, l); return len(bare) == 0 })
				if got, _ := entries(t, l); !slices.Equal(got, want) {
					t.Errorf("%s: entries %v, want %v", what, got, want)
				}
				wantInjected(t, l, plain, labelled)
			}
			more := append(slices.Clone(original), "extra")
			fewer := slices.DeleteFunc(slices.Clone(original), func(name string) bool { return name == "ephemeral-containers" })
			helm("upgrade", "release", fixture(t, l, "mutating-webhooks.yaml", oneMore), "--reuse-values")
			wantEntries("one more", more)
			helm("upgrade", "release", fixture(t, l, "mutating-webhooks.yaml", oneFewer), "--reuse-values")
			wantEntries("one fewer", fewer)
			helm("rollback", "release", "2")
			wantEntries("rolled back to one more", more)
			helm("rollback", "release", "1")
			wantEntries("rolled back to the first", original)
			helm("upgrade", "release", chart, "--reuse-values", "--set", "serviceAccountPods.mode=Webhook")
			wantEntries("the other mode", original)

			for _, r := range l.Replicas() {
				must(t, r.Terminate())
			}
			helm("uninstall", "release")
			wantUninstalled(t, l, before, plain)
			var secret corev1.Secret
			if err := l.Client.Get(t.Context(), caSecret, &secret); err == nil {
				t.Error("the CA's Secret is left")
			}
		})
	}
}

// wantUninstalled: nothing is left that blocks or mutates, besides what was there before.
func wantUninstalled(t *testing.T, l *lab.Lab, before []string, plain string) {
	t.Helper()
	for _, name := range ours(t, l) {
		if !slices.Contains(before, name) && !harmless(name) {
			t.Errorf("left: %s", name)
		}
	}
	// An API server takes a moment until it has forgotten an admission policy.
	eventually(t, "a labelled Pod starts as any other", func() bool {
		p := pod(plain, "after", label("bucket-access.io/policy", "faults"))
		return l.Client.Create(t.Context(), p) == nil && len(p.Spec.Containers[0].Env) == 0
	})
}

// TestTheChartPassesADryRun: the API server takes every object that any values render, of
// cert-manager's and the Prometheus operator's kinds too, and its own judge of Pod Security
// has nothing to say to the Deployment in a namespace of level restricted.
func TestTheChartPassesADryRun(t *testing.T) {
	namespace := newNamespace(t, cluster, map[string]string{"pod-security.kubernetes.io/warn": "restricted"})
	for _, definitions := range []string{"bin/cert-manager-crds", "bin/monitoring-crds"} {
		if _, said, err := cluster.Kubectl(testContext(t), "", "apply", "--server-side", "-f", definitions); err != nil {
			t.Fatal(said)
		}
	}
	const host = `would violate PodSecurity "restricted:latest": host namespaces`
	hosts := 0
	for _, row := range matrix.Rows() {
		t.Run(row.Name, func(t *testing.T) {
			said := dryRun(t, namespace, &row)
			switch {
			case !row.Host && said != "":
				t.Error(said)
			case row.Host && !strings.Contains(said, host): // it can fail
				t.Errorf("nothing is said of the host's network: %q", said)
			case row.Host:
				hosts++
			}
		})
	}
	if hosts == 0 {
		t.Error("no row was on the host's network: that this test can fail was not shown")
	}
}

// dryRun renders the chart and returns what the API server has to say to it.
func dryRun(t *testing.T, namespace string, row *matrix.Row) string {
	t.Helper()
	kube := row.Kube
	if !cluster.MarksPods() { // what the chart renders for newer ones is nothing that this one knows
		if strings.Contains(row.Values, "mode: Policy") {
			needsMarks(t, cluster)
		}
		kube = cluster.Version.String()
	}
	values := filepath.Join(cluster.Dir, "values.yaml") // Helm takes a comma, which names of rows have, for two files
	must(t, os.WriteFile(values, []byte(row.Values), 0o600))
	rendered, err := cluster.Helm(testContext(t), 4, "template", "release", chart, "-n", namespace, "--kube-version", kube, "--skip-tests", "-f", values)
	must(t, err)
	_, said, err := cluster.Kubectl(testContext(t), rendered, "create", "--dry-run=server", "--validate=strict", "-f", "-")
	if err != nil && said == "" {
		t.Fatal(err)
	}
	var complaints strings.Builder
	for line := range strings.Lines(said) {
		// The cluster has the fixed names already, which is found out after everything else.
		if !strings.Contains(line, "already exists") {
			complaints.WriteString(line)
		}
	}
	return complaints.String()
}

// TestHelmWithACertificateOfSomebodyElse installs the chart in external mode: the Secret's
// files are the webhook's certificate, and it writes their CA by what that mode allows it.
func TestHelmWithACertificateOfSomebodyElse(t *testing.T) {
	for _, major := range []int{4, 3} {
		t.Run(fmt.Sprintf("Helm %d", major), func(t *testing.T) {
			l, err := lab.Start(testContext(t), lab.Options{LogDir: os.Getenv("LOG_DIR"), Manifests: lab.None})
			must(t, err)
			t.Cleanup(func() { must(t, l.Stop()) })
			_, err = l.Helm(testContext(t), major, "install", "release", chart, "-n", lab.Namespace, "--create-namespace",
				"--set", "certificates.mode=external", "--set", "certificates.external.caKey=ca.crt", "--set-json", faultsPolicy)
			must(t, err)
			must(t, l.WebhookAccess(t.Context()))
			secret := &corev1.Secret{Data: servingPair(t)}
			secret.Namespace, secret.Name = lab.Namespace, tlsSecret.Name
			must(t, l.Client.Create(t.Context(), secret))
			plain, labelled := askingNamespaces(t, l)
			startMounted(t, l, 0, "external")
			wantInjected(t, l, plain, labelled)
			if _, bare := entries(t, l); len(bare) > 0 {
				t.Errorf("no caBundle: %v", bare)
			}
		})
	}
}

// harmless is what stays: the Namespace, which Helm made and does not delete, and in it the
// Lease of the replicas, their endpoints and Events. Of cert-manager's requests the owners are gone,
// and a garbage collector takes them, which the lab has not: one or, where it asked once more, two.
func harmless(name string) bool {
	kind, _, _ := strings.Cut(name, "/")
	return slices.Contains([]string{
		"namespace", "lease.coordination.k8s.io", "endpointslice.discovery.k8s.io", "event", "event.events.k8s.io", "certificaterequest.cert-manager.io",
	}, kind)
}
