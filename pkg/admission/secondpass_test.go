package admission

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// sidecar is what another webhook adds between our two passes.
func withSidecar(t *testing.T, pod, env string) string {
	t.Helper()
	added := strings.Replace(pod, `"containers":[`, `"containers":[{"name":"late","env":[`+env+`]},`, 1)
	if added == pod {
		t.Fatalf("no containers in %s", pod)
	}
	return added
}

// TestAnImpliedRequestThatIsUnmetInTheSecondPassIsTakenBack: the Pod comes out as if
// the container with credentials of its own had been there from the start.
func TestAnImpliedRequestThatIsUnmetInTheSecondPassIsTakenBack(t *testing.T) {
	service, cluster, _ := newFakes(t)
	cluster.namespaces["default"] = decide.Label{Value: "orders", Set: true}
	const before = `{"metadata":{"name":"p","labels":{"app":"x"},"annotations":{"a":"b"}},"spec":{"serviceAccountName":"api-sa",` +
		`"volumes":[{"name":"data","emptyDir":{}}],"containers":[{"name":"app","env":[{"name":"X","value":"y"}],"volumeMounts":[{"name":"data","mountPath":"/data"}]}]}}`
	first := ask(t, service, NamespacedPods, reviewOf(before))
	injected := patched(t, before, first)
	if !strings.Contains(injected, policyRole) {
		t.Fatalf("not injected: %s", injected)
	}
	const profile = `{"name":"AWS_PROFILE","value":"dev"}`
	again := withSidecar(t, injected, profile)
	second := ask(t, service, NamespacedPods, reviewOf(again))
	if !second.Allowed || len(second.Warnings) != 1 || !strings.Contains(second.Warnings[0], "AWS_PROFILE") {
		t.Fatalf("allowed %t, warnings %v", second.Allowed, second.Warnings)
	}
	canonical := func(text string) string {
		var document any
		if err := json.Unmarshal([]byte(text), &document); err != nil {
			t.Fatal(err)
		}
		out, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	gotText, wantText := canonical(patched(t, again, second)), canonical(withSidecar(t, before, profile))
	if gotText != wantText {
		t.Fatalf("got  %s\nwant %s", gotText, wantText)
	}
}

func TestATimeoutOfTheAPIServerIsHonoured(t *testing.T) {
	service, _, _ := newFakes(t)
	server := NewServer(service, DefaultLimits(), nullRecorder{}, logr.Discard())
	for query, want := range map[string]time.Duration{
		"?timeout=2s": 1800 * time.Millisecond, "?timeout=30s": 10 * time.Second, "": 10 * time.Second, "?timeout=soon": 10 * time.Second,
		"?timeout=-1s": 10 * time.Second, "?timeout=2%73": 1800 * time.Millisecond, "?a=b&timeout=2s": 1800 * time.Millisecond, "?timeout=2s&a=b": 1800 * time.Millisecond,
	} {
		if got := server.timeout(httptest.NewRequest(http.MethodPost, "/mutate/pods"+query, nil)); got != want {
			t.Errorf("%s: %s", query, got)
		}
	}
}

func TestWhatASmallBodyCanMakeIsBounded(t *testing.T) {
	for name, object := range map[string]string{
		"containers": `{"spec":{"containers":[` + strings.Repeat(`{},`, maxContainers) + `{}]}}`,
		"entries":    `{"spec":{"containers":[{"env":[` + strings.Repeat(`{},`, maxElements) + `{}]}]}}`,
	} {
		service, _, _ := newFakes(t)
		if w := post(t, service, Pods, reviewOf(object)); w.Code != 400 || !strings.Contains(w.Body.String(), "more than") {
			t.Errorf("%s: HTTP %d %s", name, w.Code, w.Body)
		}
	}
	service, _, policies := newFakes(t)
	policies.live = policies.snapshot
	label := strings.Repeat("x", 100_000)
	response := ask(t, service, Pods, reviewOf(`{"metadata":{"labels":{"bucket-access.io/policy":"`+label+`"}},"spec":{"serviceAccountName":"`+label+`"}}`))
	if response.Allowed || len(response.Result.Message) > 1000 {
		t.Errorf("an answer of %d bytes", len(response.Result.Message))
	}
}
