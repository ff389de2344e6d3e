// Package pods is the end-to-end suite on real Pods: what a user of the webhook gets, on
// whichever cluster it is given (see e2e/README.md).
package pods

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/e2e/cluster"
	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const (
	chart   = "charts/bucket-access-webhook"
	release = "release"
	// ownSecret is that of mode external; cert-manager leaves its own behind.
	ownSecret = "webhook-tls-of-our-own"
)

// c is the cluster of all tests: each works in Namespaces of its own, and those that
// change the installation put it back.
var c *cluster.Cluster

func TestMain(m *testing.M) {
	if code, again := cluster.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute) // kind pulls its node image
	defer cancel()
	progress := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "pods: "+format+"\n", args...) }
	started := time.Now()
	var err error
	c, err = cluster.Start(ctx, cluster.Options{Provider: cluster.Provider(), LogDir: os.Getenv("LOG_DIR"), Progress: progress})
	defer func() {
		if err := c.Stop(); err != nil {
			progress("%v", err)
			code = 1
		}
	}()
	if err != nil {
		progress("%v", err)
		return 1
	}
	progress("the cluster is up after %.1f s", time.Since(started).Seconds())
	if err := install(ctx, "managed"); err != nil {
		progress("%v", err)
		return 1
	}
	progress("the webhook serves after %.1f s", time.Since(started).Seconds())
	if err := startRenewal(ctx); err != nil {
		progress("%v", err)
		return 1
	}
	return m.Run()
}

// policies are those that every test may use: by name, as further lines of a document.
var policies = map[string][]string{
	"e2e":       nil,
	"with-gate": {"reader: {inject: true, gate: Startup, probeKey: gate.json}"},
	"not-ready": {"reader: {inject: true, gate: Readiness, probeKey: gate.json}"},
	"no-gate":   {"reader: {inject: true, gate: None, probeKey: gate.json}"},
}

// values are the chart's, for a certificate mode.
func values(mode string) (string, error) {
	all := map[string]any{}
	for name, more := range policies {
		var document map[string]any
		if err := yaml.Unmarshal([]byte(c.Bucket.Document(cluster.Everyone, more...)), &document); err != nil {
			return "", err
		}
		delete(document, "apiVersion")
		delete(document, "kind")
		all[name] = document
	}
	image := func(reference string) map[string]any {
		colon := strings.LastIndex(reference, ":")
		return map[string]any{"repository": reference[:colon], "tag": reference[colon+1:]}
	}
	document, err := json.Marshal(map[string]any{
		"policies": all, "image": image(c.Images.Webhook), "reader": map[string]any{"image": image(c.Images.Reader)},
		"certificates": map[string]any{"mode": mode, "external": map[string]any{"caKey": "ca.crt", "secretName": ownSecret}},
		"log":          map[string]any{"level": "debug"},
	})
	path := filepath.Join(c.Dir, "values-"+mode+".json")
	if err != nil {
		return "", err
	}
	return path, os.WriteFile(path, document, 0o600)
}

// install brings the release to a certificate mode, from nothing or from another one, and
// waits until its replicas are ready.
func install(ctx context.Context, mode string, args ...string) error {
	path, err := values(mode)
	if err != nil {
		return err
	}
	_, err = c.Helm(ctx, 4, append([]string{"upgrade", "--install", release, chart, "-n", lab.Namespace, "--create-namespace",
		"-f", path, "--wait", "--timeout", "2m"}, args...)...)
	return err
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	// Clean-ups use it too, when the test's own context has ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 3*time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// within asks until nothing is wrong any more, and fails with what was wrong last.
func within(tb testing.TB, limit time.Duration, what string, wrong func() string) {
	tb.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		said := wrong()
		if said == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not in %s: %s", what, limit, said)
		}
	}
}

// newNamespace makes a Namespace that enforces the Pod Security level restricted, unless
// the labels say otherwise, with the ServiceAccount reader.
func newNamespace(tb testing.TB, labels ...string) string {
	tb.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: cluster.NamespacePrefix, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	for i := 0; i < len(labels); i += 2 {
		namespace.Labels[labels[i]] = labels[i+1]
	}
	must(tb, c.Client.Create(testContext(tb), namespace))
	tb.Cleanup(func() {
		_ = c.Client.Delete(context.Background(), namespace, client.GracePeriodSeconds(1))
	})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "reader"}}
	must(tb, c.Client.Create(testContext(tb), account))
	// The controller-manager makes the default one; a Pod that comes before is refused.
	within(tb, 30*time.Second, "the default ServiceAccount", func() string {
		var account corev1.ServiceAccount
		return text(c.Client.Get(context.Background(), client.ObjectKey{Namespace: namespace.Name, Name: "default"}, &account))
	})
	return namespace.Name
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// kubectl runs a command that must work and returns what it prints.
func kubectl(tb testing.TB, args ...string) string {
	tb.Helper()
	stdout, stderr, err := c.Kubectl(testContext(tb), "", args...)
	if err != nil {
		tb.Fatalf("kubectl %s: %s", strings.Join(args, " "), stderr)
	}
	return stdout
}
