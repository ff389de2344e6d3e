package chart

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"

	"github.com/bucket-access/bucket-access-webhook/e2e/chart/matrix"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

func TestEveryRowOfTheMatrixIsValidAndTheSameWithBothHelms(t *testing.T) {
	for _, row := range matrix.Rows() {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			text := render(t, "helm", row.Kube, row.Values)
			all := objects(t, text)
			if diff := cmp.Diff(sorted(objects(t, render(t, "helm3", row.Kube, row.Values))), sorted(all)); diff != "" {
				t.Errorf("Helm 3 (-) and Helm 4 (+) differ:\n%s", diff)
			}
			checkText(t, text)
			release, tests := apart(t, all)
			checkObjects(t, release)
			checkPods(t, release, row.Host)
			checkTests(t, tests, find(release, "Deployment", name))
		})
	}
}

func sorted(all []*unstructured.Unstructured) map[string]map[string]any {
	byName := map[string]map[string]any{}
	for _, object := range all {
		byName[object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName()] = object.Object
	}
	return byName
}

// checkText looks for what must never be rendered, and for noise.
func checkText(t *testing.T, text string) {
	t.Helper()
	for _, never := range []string{"caBundle:", "<no value>", "map["} {
		if strings.Contains(text, never) {
			t.Errorf("rendered %q, which must never be:\n%s", never, text)
		}
	}
	if blank := regexp.MustCompile(`\n[ \t]*\n[^-\n]|[ \t]\n`).FindString(text); blank != "" {
		t.Errorf("a blank line inside a document, or blanks at an end of line: %q", blank)
	}
}

func checkObjects(t *testing.T, all []*unstructured.Unstructured) {
	t.Helper()
	seen := map[string]bool{}
	for _, object := range all {
		at := object.GetKind() + " " + object.GetName()
		if seen[at] {
			t.Errorf("%s is rendered twice", at)
		}
		seen[at] = true
		if object.GetKind() == "Secret" && (object.Object["data"] != nil || object.Object["stringData"] != nil) {
			t.Errorf("%s has data; it must be empty, or Helm would take away what the webhook wrote", at)
		}
		if strings.HasPrefix(object.GetName(), "bucket-access") && object.GetLabels()["app.kubernetes.io/name"] != name {
			t.Errorf("%s has no label app.kubernetes.io/name: %s", at, name)
		}
		if object.GetNamespace() != "" && object.GetNamespace() != namespace {
			t.Errorf("%s is in namespace %s; everything must be in the release's, %s", at, object.GetNamespace(), namespace)
		}
	}
	for _, kind := range []string{
		"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "Deployment", "Service", "ServiceAccount", "ClusterRole", "Role",
	} {
		if find(all, kind, name) == nil {
			t.Errorf("there is no %s %s", kind, name)
		}
	}
}

// checkPods holds the Deployment's Pods to restricted, their selectors and the flags that the program has.
func checkPods(t *testing.T, all []*unstructured.Unstructured, host bool) {
	t.Helper()
	deployment := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(find(all, "Deployment", name).Object, deployment); err != nil {
		t.Fatal(err)
	}
	pod := deployment.Spec.Template
	if !host {
		checkRestricted(t, "the webhook's Pods", &pod.ObjectMeta, &pod.Spec)
	}
	if host != (pod.Spec.DNSPolicy == corev1.DNSClusterFirstWithHostNet) {
		t.Errorf("dnsPolicy is %q with hostNetwork %t", pod.Spec.DNSPolicy, host)
	}
	checkSelectors(t, all, pod.Labels)
	container := pod.Spec.Containers[0]
	if !*container.SecurityContext.ReadOnlyRootFilesystem || !container.Resources.Limits.Cpu().IsZero() || container.Resources.Limits.Memory().IsZero() {
		t.Error("the container must have a read-only root, a memory limit and no CPU limit")
	}
	for _, arg := range container.Args {
		flag, value, _ := strings.Cut(arg, "=")
		if !flags(t)[flag] {
			t.Errorf("args: %s is no flag of bin/bucket-access-webhook; see its --help", arg)
		}
		if strings.Contains(value, "e+") {
			t.Errorf("args: %s is a number in a form that no flag reads", arg)
		}
	}
	mounted := slices.ContainsFunc(container.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "tls" })
	if managed := slices.Contains(container.Args, "--certificates=managed"); managed == mounted {
		t.Errorf("managed certificates: %t, and a Secret is mounted: %t; it must be one of both", managed, mounted)
	}
}

func checkRestricted(t *testing.T, whose string, meta *metav1.ObjectMeta, spec *corev1.PodSpec) {
	t.Helper()
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	if result := psapolicy.AggregateCheckResults(evaluator.EvaluatePod(level, meta, spec)); !result.Allowed {
		t.Errorf("%s are not restricted: %s", whose, result.ForbiddenDetail())
	}
}

func checkSelectors(t *testing.T, all []*unstructured.Unstructured, pod map[string]string) {
	t.Helper()
	for _, object := range all {
		if !strings.HasPrefix(object.GetName(), name) {
			continue
		}
		path, on := []string{"spec", "selector", "matchLabels"}, pod
		switch object.GetKind() {
		case "Service":
			path = path[:2]
		case "NetworkPolicy":
			path = []string{"spec", "podSelector", "matchLabels"}
		case "ServiceMonitor":
			on = find(all, "Service", name+"-metrics").GetLabels()
		case "Deployment", "PodDisruptionBudget", "PodMonitor":
		default:
			continue
		}
		selector, found, err := unstructured.NestedStringMap(object.Object, path...)
		if err != nil || !found || !labels.SelectorFromSet(selector).Matches(labels.Set(on)) {
			t.Errorf("%s %s: its selector %v must match %v (%v)", object.GetKind(), object.GetName(), selector, on, err)
		}
	}
}

var help struct {
	sync.Once
	flags map[string]bool
}

// flags are what the program's own --help lists.
func flags(t *testing.T) map[string]bool {
	t.Helper()
	help.Do(func() {
		help.flags = map[string]bool{}
		for _, flag := range regexp.MustCompile(`(?m)^  -([a-z-]+)`).FindAllStringSubmatch(helpText(t), -1) {
			help.flags["--"+flag[1]] = true
		}
	})
	return help.flags
}

func TestNoTemplateLooksUpOrMakesUpAnything(t *testing.T) {
	files, err := filepath.Glob(directory + "/templates/*.*")
	if err != nil || len(files) < 10 {
		t.Fatalf("templates: %v, %v", files, err)
	}
	tests, err := filepath.Glob(directory + "/templates/*/*")
	if err != nil || len(tests) != 1 || !strings.HasSuffix(tests[0], "/tests/check.yaml") {
		t.Fatalf("templates of tests: %v, %v", tests, err)
	}
	never := regexp.MustCompile(`\b(lookup|genCA\w*|genSelfSigned\w*|genSigned\w*|genPrivateKey|rand[A-Z]\w*|uuidv4|now|helm\.sh/hook|caBundle:)`)
	for _, file := range append(files, tests...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(tests, file) { // whose hooks checkTests looks at
			text = bytes.ReplaceAll(text, []byte("helm.sh/hook"), nil)
		}
		if found := never.FindString(string(text)); found != "" {
			t.Errorf("%s: %q; what is rendered must depend on the values alone", file, found)
		}
		if lines := strings.Count(string(text), "\n"); lines >= 300 {
			t.Errorf("%s has %d lines; at most 299", file, lines)
		}
	}
}

func TestOnlyWhatWritesTheCAMayPatchWebhookConfigurations(t *testing.T) {
	for values, may := range map[string]bool{
		"": true, "certificates: {mode: certManager}": false, "certificates: {mode: external}": false,
		"certificates: {mode: external, external: {caKey: ca.crt}}": true,
	} {
		all := objects(t, render(t, "helm", "1.37", values))
		rules, _, err := unstructured.NestedSlice(find(all, "ClusterRole", name).Object, "rules")
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(rules, func(rule any) bool { return cmp.Equal(rule.(map[string]any)["resourceNames"], []any{name}) })
		if found != may {
			t.Errorf("%q: may patch webhook configurations: %t; want %t", values, found, may)
		}
		if secret := find(all, "Secret", name+"-ca") != nil; secret != (values == "") {
			t.Errorf("%q: there is a Secret for the webhook's own CA: %t", values, secret)
		}
	}
}

func TestPoliciesOfTheValuesAreReadByTheWebhook(t *testing.T) {
	config := find(objects(t, render(t, "helm", "1.37", matrix.TwoPolicies)), "ConfigMap", name+"-policies")
	if config == nil || config.GetLabels()[v1alpha1.LabelPolicies] != "true" {
		t.Fatalf("there is no labelled ConfigMap of policies: %v", config)
	}
	data, _, err := unstructured.NestedStringMap(config.Object, "data")
	if err != nil || len(data) != 2 {
		t.Fatalf("data has %d policies (%v); want 2", len(data), err)
	}
	for key, text := range data {
		if _, faults := policy.Parse(key, text); len(faults) > 0 {
			t.Errorf("%s: %v\n%s", key, faults.ToAggregate(), text)
		}
	}
}

func TestModeFollowsTheCluster(t *testing.T) {
	for kube, marked := range map[string]bool{"1.30": false, "1.35": false, "1.36": true, "1.36.2-eks-1": true, "1.37": true} {
		all := objects(t, render(t, "helm", kube, ""))
		if found := find(all, "MutatingAdmissionPolicy", name+"-serviceaccount-pods") != nil; found != marked {
			t.Errorf("Kubernetes %s: a MutatingAdmissionPolicy is rendered: %t; want %t", kube, found, marked)
		}
	}
}

func TestMemoryLimitSetsTheGoLimit(t *testing.T) {
	want := map[string]string{"128Mi": "115MiB", "2Gi": "1843MiB", "204800Ki": "184320KiB"}
	got := map[string]string{}
	for limit := range maps.Keys(want) {
		text := render(t, "helm", "1.37", "resources: {limits: {memory: "+limit+"}}")
		got[limit] = regexp.MustCompile(`GOMEMLIMIT, value: (\w+)`).FindStringSubmatch(text)[1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GOMEMLIMIT (-want +got):\n%s", diff)
	}
}
