package pods

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// readerSays runs the reader's own check in its container, as its probes do, and returns
// what is wrong with the answer: it should start with want.
func readerSays(tb testing.TB, namespace, name, want string) string {
	tb.Helper()
	stdout, stderr, _ := c.Kubectl(testContext(tb), "", "-n", namespace, "exec", name, "-c", readerContainer, "--", "/"+readerContainer, "check")
	if !strings.HasPrefix(stdout, want) {
		return strings.TrimSpace(stdout + stderr)
	}
	return ""
}

// forward makes a Pod's port reachable on loopback, until the test ends.
func forward(tb testing.TB, namespace, name, port string) string {
	tb.Helper()
	address, stop, err := c.Forward(testContext(tb), namespace, name, port)
	must(tb, err)
	tb.Cleanup(stop)
	return address
}

// TestTheReaderServesTheObject asks the sidecar as a person does, through the API server.
func TestTheReaderServesTheObject(t *testing.T) {
	namespace := newNamespace(t)
	must(t, c.Client.Create(testContext(t), pod(namespace, "served", labelled(policyLabel, "e2e"), annotated(readerAnnotation, "true"))))
	wantRead(t, namespace, "served", "app")
	address := forward(t, namespace, "served", "21840")
	for path, want := range map[string]string{"/s3/" + c.Bucket.Key: c.Bucket.Content, "/": "<!doctype html>"} {
		within(t, 30*time.Second, path, func() string {
			answer, err := http.Get("http://" + address + path)
			if err != nil {
				return err.Error()
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || !strings.Contains(strings.ToLower(string(body)), strings.ToLower(want)) {
				return answer.Status + ": " + string(body)
			}
			return ""
		})
	}
	wantNoRestart(t, namespace, "served")
}

// TestTheReadersGatesHoldBackWhatTheySay starts Pods whose probe object is missing, looks
// at what waits, and then puts the object there.
func TestTheReadersGatesHoldBackWhatTheySay(t *testing.T) {
	if c.Bucket.Account == nil {
		t.Skip("the probe object is written into the bucket, and this one belongs to somebody else")
	}
	const key, held = "gate.json", 15 * time.Second
	namespace := newNamespace(t)
	for _, policy := range []string{"with-gate", "not-ready", "no-gate"} {
		must(t, c.Client.Create(testContext(t), pod(namespace, policy, labelled(policyLabel, policy))))
	}
	is := func(name string, running, ready bool) string {
		var p corev1.Pod
		if err := c.Client.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, &p); err != nil {
			return err.Error()
		}
		runs := len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Running != nil
		isReady := false
		for _, condition := range p.Status.Conditions {
			isReady = isReady || condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
		}
		if runs != running || isReady != ready {
			return "its container " + map[bool]string{true: "runs", false: "does not run"}[runs] + " and it is " +
				map[bool]string{true: "ready", false: "not ready"}[isReady] + state(t, namespace, name)
		}
		return ""
	}
	for name, want := range map[string][2]bool{"with-gate": {false, false}, "not-ready": {true, false}, "no-gate": {true, true}} {
		within(t, time.Minute, name+" without the object", func() string { return is(name, want[0], want[1]) })
		within(t, 30*time.Second, name+": the reader says why", func() string { return readerSays(t, namespace, name, "KeyMissing") })
	}
	for until := time.Now().Add(held); time.Now().Before(until); time.Sleep(time.Second) {
		for name, want := range map[string][2]bool{"with-gate": {false, false}, "not-ready": {true, false}, "no-gate": {true, true}} {
			if wrong := is(name, want[0], want[1]); wrong != "" {
				t.Fatalf("%s was not held: %s", name, wrong)
			}
		}
	}
	// What a person sees who asks why the Pod does not start.
	within(t, 30*time.Second, "kubectl describe names the cause", func() string {
		said := kubectl(t, "-n", namespace, "describe", "pod", "with-gate")
		if !strings.Contains(said, "Startup probe failed: KeyMissing") {
			return said[strings.Index(said, "Events:"):]
		}
		return ""
	})
	must(t, c.Bucket.Account.Put(testContext(t), c.Bucket.Name, key, "application/json", []byte(`{}`)))
	for _, name := range []string{"with-gate", "not-ready", "no-gate"} {
		within(t, time.Minute, name+" with the object", func() string { return is(name, true, true) })
		wantRead(t, namespace, name, "app")
		wantNoRestart(t, namespace, name)
	}
}
