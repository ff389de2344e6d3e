package chart

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/bucket-access/bucket-access-webhook/e2e/chart/matrix"
)

// apart takes what helm test makes and removes apart from the release. There are no
// other hooks: what GitOps tools and kubectl apply is what Helm installs.
func apart(t *testing.T, all []*unstructured.Unstructured) (release, tests []*unstructured.Unstructured) {
	t.Helper()
	for _, object := range all {
		hook := false
		for key := range object.GetAnnotations() {
			hook = hook || strings.HasPrefix(key, "helm.sh/hook")
		}
		if !hook {
			release = append(release, object)
			continue
		}
		at := object.GetAnnotations()
		if at["helm.sh/hook"] != "test" || at["helm.sh/hook-delete-policy"] != "before-hook-creation,hook-succeeded" {
			t.Errorf("%s %s: annotations %v; the one hook is test, and what it made goes when it has passed", object.GetKind(), object.GetName(), at)
		}
		// The Pod comes last, and what it says is shown.
		if pod := object.GetKind() == "Pod"; (at["helm.sh/hook-weight"] == "-1") == pod || (at["helm.sh/hook-output-log-policy"] != "") != pod {
			t.Errorf("%s %s: annotations %v", object.GetKind(), object.GetName(), at)
		}
		tests = append(tests, object)
	}
	return release, tests
}

func as[T any](t *testing.T, object *unstructured.Unstructured) *T {
	t.Helper()
	typed := new(T)
	if object == nil {
		t.Fatalf("there is no %T of the test", typed)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, typed); err != nil {
		t.Fatal(err)
	}
	return typed
}

// checkTests holds what helm test makes to the least: restricted, no more rights than it
// needs, and nothing that the webhook's own selectors match.
func checkTests(t *testing.T, tests []*unstructured.Unstructured, deployment *unstructured.Unstructured) {
	t.Helper()
	var kinds []string
	for _, object := range tests {
		kinds = append(kinds, object.GetKind())
		if object.GetName() != name+"-test" || object.GetLabels()["app.kubernetes.io/name"] != name+"-test" {
			t.Errorf("%s %s: every object of the test has the name %s-test, and as a label too", object.GetKind(), object.GetName(), name)
		}
	}
	slices.Sort(kinds)
	if diff := cmp.Diff([]string{"ClusterRole", "ClusterRoleBinding", "Pod", "Role", "RoleBinding", "ServiceAccount"}, kinds); diff != "" {
		t.Fatalf("what the test makes (-want +got):\n%s", diff)
	}
	pod := as[corev1.Pod](t, find(tests, "Pod", name+"-test"))
	checkRestricted(t, "the test's Pods", &pod.ObjectMeta, &pod.Spec)
	selector, _, err := unstructured.NestedStringMap(deployment.Object, "spec", "selector", "matchLabels")
	if err != nil || labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
		t.Errorf("the Service would send Pods to the test: its labels %v match %v (%v)", pod.Labels, selector, err)
	}
	container := pod.Spec.Containers[0]
	containers, _, err := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	if err != nil || containers[0].(map[string]any)["image"] != container.Image {
		t.Errorf("the test's image is %s; it must be the webhook's (%v)", container.Image, err)
	}
	if container.Args[0] != "check" {
		t.Errorf("the test runs %v", container.Args)
	}
	help := helpText(t, "check")
	for _, arg := range container.Args[1:] {
		flag, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if !strings.Contains(help, "  "+flag+" ") && !strings.Contains(help, "  "+flag+"\n") {
			t.Errorf("args: %s is no flag of check; see its --help:\n%s", arg, help)
		}
	}
	role := as[rbacv1.Role](t, find(tests, "Role", name+"-test"))
	if diff := cmp.Diff([]rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"create"}}}, role.Rules); diff != "" {
		t.Errorf("rights of the test in a namespace (-want +got):\n%s", diff)
	}
	binding := as[rbacv1.RoleBinding](t, find(tests, "RoleBinding", name+"-test"))
	if !slices.Contains(container.Args, "--namespace="+role.Namespace) || role.Namespace != binding.Namespace {
		t.Errorf("the test tries Pods elsewhere than it may, in %s: %v", role.Namespace, container.Args)
	}
	for _, rule := range as[rbacv1.ClusterRole](t, find(tests, "ClusterRole", name+"-test")).Rules {
		if diff := cmp.Diff([]string{"get"}, rule.Verbs); diff != "" || len(rule.ResourceNames) == 0 || len(rule.NonResourceURLs) > 0 {
			t.Errorf("the test may read what it names, and nothing else: %v", rule)
		}
	}
}

// TestWithoutItsTestsTheChartIsWhatIsInstalled: manifests/ are rendered so.
func TestWithoutItsTestsTheChartIsWhatIsInstalled(t *testing.T) {
	for _, helm := range helms() {
		all := objects(t, render(t, helm, "1.37", matrix.Everything))
		release, tests := apart(t, all)
		out, err := run(t, helm, matrix.Everything, "template", "bucket-access", directory, "--namespace", namespace, "--kube-version", "1.37", "--skip-tests")
		if err != nil || len(tests) == 0 {
			t.Fatalf("tests: %d, %v", len(tests), err)
		}
		if diff := cmp.Diff(sorted(release), sorted(objects(t, out))); diff != "" {
			t.Errorf("%s --skip-tests leaves (-want +got):\n%s", helm, diff)
		}
	}
}

func TestTheTestAsksForThePoliciesOfTheValues(t *testing.T) {
	_, tests := apart(t, objects(t, render(t, "helm", "1.37", matrix.TwoPolicies+"backstops: {enabled: false}")))
	pod := as[corev1.Pod](t, find(tests, "Pod", name+"-test"))
	if diff := cmp.Diff([]string{"check", "--namespace=default", "--policies=123,orders"}, pod.Spec.Containers[0].Args); diff != "" {
		t.Errorf("args (-want +got):\n%s", diff)
	}
}
