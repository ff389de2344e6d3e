// Package suite is the end-to-end suite: what a user sees, on a real API server.
package suite

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// cluster is shared by the tests: each works in namespaces of its own. Tests that
// restart replicas or change the installation start a lab of their own.
var cluster *lab.Lab

func TestMain(m *testing.M) {
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(func() int {
		var err error
		if cluster, err = start(""); err != nil {
			fmt.Fprintln(os.Stderr, "suite:", err)
			return 1
		}
		defer func() {
			if err := cluster.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, "suite:", err)
			}
		}()
		return m.Run()
	}())
}

// start brings up a lab with two replicas; without manifests, those for the API server's version.
func start(manifests string, flags ...string) (*lab.Lab, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Manifests: manifests, Flags: flags, LogDir: os.Getenv("LOG_DIR"), Progress: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "suite: "+format+"\n", args...)
	}})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"replica-a", "replica-b"} {
		if _, err := l.StartReplica(ctx, name); err != nil {
			return nil, errors.Join(err, l.Stop())
		}
	}
	return l, nil
}

// needsMarks skips what an API server older than 1.36 can't do.
func needsMarks(t *testing.T, l *lab.Lab) {
	t.Helper()
	if !l.MarksPods() {
		t.Skipf("needs a MutatingAdmissionPolicy: Kubernetes 1.36 or newer, this is %s", l.Version)
	}
}

func contextFor(limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), limit)
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// newNamespace makes a Namespace with a default ServiceAccount and others. Its name
// is unique in the lab.
func newNamespace(tb testing.TB, l *lab.Lab, labels map[string]string, accounts ...string) string {
	tb.Helper()
	ctx := testContext(tb)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels}}
	must(tb, l.Client.Create(ctx, namespace))
	for _, account := range append([]string{"default"}, accounts...) {
		must(tb, l.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: account}}))
	}
	return namespace.Name
}

// newPolicy makes a policy ConfigMap and waits until every replica has it in force.
// It returns the policy's name.
func newPolicy(t *testing.T, l *lab.Lab, name string, subjects string, extra ...string) {
	t.Helper()
	document := policyDocument(subjects, extra...)
	must(t, l.Client.Create(testContext(t), policyConfigMap(name, document)))
	t.Cleanup(func() { _ = l.Client.Delete(context.Background(), policyConfigMap(name, "")) })
	time.Sleep(300 * time.Millisecond)
}

func policyDocument(subjects string, extra ...string) string {
	return "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [" + subjects + "]\n" + strings.Join(extra, "\n")
}

func policyConfigMap(name, document string) *corev1.ConfigMap {
	return lab.PolicyConfigMap(name, document)
}

func subject(namespace, account string) string {
	return fmt.Sprintf("{namespace: %q, serviceAccount: %q}", namespace, account)
}

// pod is a small Pod; edits change it.
func pod(namespace, name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "api-sa",
			Containers:         []corev1.Container{{Name: "app", Image: "registry.example.com/app:v1"}},
		},
	}
	for _, edit := range edits {
		edit(p)
	}
	return p
}

func label(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels[key] = value }
}

func annotation(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[key] = value }
}

func account(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.ServiceAccountName = name }
}

func env(name, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Env = append(p.Spec.Containers[0].Env, corev1.EnvVar{Name: name, Value: value})
	}
}

// apply runs kubectl apply on the objects and returns what a person reads.
func apply(t *testing.T, l *lab.Lab, objects ...any) (said string, err error) {
	t.Helper()
	var documents []string
	for _, object := range objects {
		document, err := yaml.Marshal(object)
		must(t, err)
		documents = append(documents, string(document))
	}
	stdout, stderr, err := l.Kubectl(testContext(t), strings.Join(documents, "\n---\n"), "create", "-f", "-")
	return stdout + stderr, err
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// eventually waits up to five seconds for a condition that another process brings about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not in five seconds: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// serveOnLoopback serves until the test ends and returns the URL.
func serveOnLoopback(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}
