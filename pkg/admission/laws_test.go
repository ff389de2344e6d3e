package admission

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	psaapi "k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// lawRounds random Pods are tried by each run; a failure prints the seed.
const lawRounds = 4000

// randomService draws the surroundings of a Pod: who annotated the ServiceAccount,
// what is known of the cluster.
func randomService(t *testing.T, random *rand.Rand) *Service {
	t.Helper()
	service, cluster, _ := newFakes(t)
	cluster.facts.Region = []string{"", "eu-west-1", "us-west-2"}[random.IntN(3)]
	annotations := map[string]string{}
	if random.IntN(2) == 0 {
		annotations[v1alpha1.EKSAnnotationRoleARN] = []string{roleA, policyRole}[random.IntN(2)]
	}
	if random.IntN(4) == 0 {
		annotations[v1alpha1.EKSAnnotationAudience] = "other-audience"
	}
	account := inject.ServiceAccountView{Namespace: "default", Name: "api-sa", Annotations: annotations, HasAnnotations: true}
	if random.IntN(4) == 0 {
		account.Policy = decide.Label{Value: "orders", Set: true}
	}
	cluster.accounts["default/api-sa"] = account
	if random.IntN(4) == 0 {
		cluster.namespaces["default"] = decide.Label{Value: "orders", Set: true}
	}
	return service
}

// eachRandomPod calls law with random Pods and their answers.
func eachRandomPod(t *testing.T, law func(t *testing.T, service *Service, before, after string, accepted bool)) {
	t.Helper()
	rounds := lawRounds
	if testing.Short() {
		rounds /= 10
	}
	injected, refused := 0, 0
	for seed := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, 1))
		service := randomService(t, random)
		before := randomPod(random)
		response := ask(t, service, Pods, reviewOf(before))
		after := before
		if response.Allowed {
			after = patched(t, before, response)
		} else {
			refused++
		}
		if strings.Contains(after, `bucket-access.io/injected":"orders"`) {
			injected++
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { law(t, service, before, after, response.Allowed) })
		if t.Failed() {
			t.Fatalf("Pod of seed %d:\n%s\nafter:\n%s", seed, before, after)
		}
	}
	if injected < rounds/10 || refused < rounds/50 {
		t.Fatalf("the random Pods prove little: %d injected and %d refused of %d", injected, refused, rounds)
	}
}

func TestPatchingTwiceEqualsOnce(t *testing.T) {
	eachRandomPod(t, func(t *testing.T, service *Service, _, after string, accepted bool) {
		t.Helper()
		if !accepted {
			return
		}
		again := ask(t, service, Pods, reviewOf(after))
		if !again.Allowed {
			t.Fatalf("refused the second time: %s", again.Result.Message)
		}
		if len(again.Patch) > 0 {
			t.Fatalf("patched the second time: %s", again.Patch)
		}
	})
}

func TestUnknownFieldsSurviveByteForByte(t *testing.T) {
	eachRandomPod(t, func(t *testing.T, _ *Service, before, after string, _ bool) {
		t.Helper()
		for _, unknown := range unknownFields {
			if was, is := strings.Count(before, unknown), strings.Count(after, unknown); was != is {
				t.Fatalf("%s: %d times before, %d times after", unknown, was, is)
			}
		}
	})
}

func TestRestrictedPodsStayRestricted(t *testing.T) {
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}
	allowed := func(t *testing.T, document string) bool {
		t.Helper()
		var pod corev1.Pod
		if err := json.Unmarshal([]byte(document), &pod); err != nil {
			t.Fatal(err)
		}
		return psapolicy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)).Allowed
	}
	passed := 0
	eachRandomPod(t, func(t *testing.T, _ *Service, before, after string, _ bool) {
		t.Helper()
		if !allowed(t, before) {
			return
		}
		if passed++; !allowed(t, after) {
			t.Fatal("passed restricted before, not any more")
		}
	})
	if passed < 20 {
		t.Fatalf("only %d of the random Pods passed restricted to begin with", passed)
	}
}

// wrote lists the env names that the webhook writes under the policy orders.
var wrote = []string{
	"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_STS_REGIONAL_ENDPOINTS", "BUCKET_NAME", "BUCKET_REGION",
	"AWS_EC2_METADATA_DISABLED", "AWS_ROLE_SESSION_NAME",
}

func TestInjectedContainersAreWhole(t *testing.T) {
	eachRandomPod(t, func(t *testing.T, _ *Service, before, after string, accepted bool) {
		t.Helper()
		pod := parsePod(t, after)
		if _, mirror := pod.Annotations[mirrorPod]; mirror || !accepted || pod.Labels["bucket-access.io/injected"] != "orders" {
			return
		}
		status, ok := inject.ParseStatus(pod.Annotations["bucket-access.io/status"])
		if !ok {
			t.Fatal("injected without a status")
		}
		was := map[string]corev1.Container{}
		for _, c := range containersOf(parsePod(t, before)) {
			was[c.Name] = c
		}
		for _, c := range containersOf(pod) {
			if !slices.Contains(status.Containers, c.Name) {
				continue
			}
			names, paths := map[string]int{}, map[string]int{}
			values := map[string]corev1.EnvVar{}
			for _, e := range c.Env {
				names[e.Name]++
				values[e.Name] = e
			}
			for _, m := range c.VolumeMounts {
				paths[path.Clean(m.MountPath)]++
			}
			for _, name := range wrote {
				// A preference that the user wrote, twice even, is kept and not written.
				kept := slices.Contains([]string{"AWS_ROLE_SESSION_NAME", "BUCKET_REGION", "AWS_STS_REGIONAL_ENDPOINTS"}, name)
				if names[name] == 0 || names[name] > 1 && !kept {
					t.Fatalf("container %s has %d entries %s", c.Name, names[name], name)
				}
			}
			if values["AWS_ROLE_ARN"].Value != policyRole || values["BUCKET_NAME"].Value != "orders-data" {
				t.Fatalf("container %s has another identity: %v", c.Name, values)
			}
			if values["AWS_REGION"].Name == "" || values["AWS_DEFAULT_REGION"].Name == "" {
				t.Fatalf("container %s has half a region: %v", c.Name, values)
			}
			if paths[v1alpha1.TokenMountPath] != 1 {
				t.Fatalf("container %s has %d mounts at the token's path", c.Name, paths[v1alpha1.TokenMountPath])
			}
			for _, e := range was[c.Name].Env {
				leftover := e.Name == "OLD_BUCKET" && e.Value == "old" // the status may say that it was ours
				if names[e.Name] == 0 && !leftover {
					t.Fatalf("container %s lost its env entry %s", c.Name, e.Name)
				}
			}
		}
	})
}

func TestContainersThatAreNotInjectedAreNotTouched(t *testing.T) {
	eachRandomPod(t, func(t *testing.T, _ *Service, before, after string, _ bool) {
		t.Helper()
		status := inject.Status{}
		if pod := parsePod(t, after); pod.Labels["bucket-access.io/injected"] != "" {
			status, _ = inject.ParseStatus(pod.Annotations["bucket-access.io/status"])
		}
		was, is := rawContainers(t, before), rawContainers(t, after)
		for name, document := range was {
			if !slices.Contains(status.Containers, name) && is[name] != document {
				t.Fatalf("container %s was changed:\n%s\n%s", name, document, is[name])
			}
		}
	})
}

// TestTheReaderCollidesWithNothing: its name and port are its own, it stands last among
// the init containers, and it is there exactly where it was asked for and can be.
func TestTheReaderCollidesWithNothing(t *testing.T) {
	seen, enough := 0, 50
	if testing.Short() {
		enough = 5
	}
	eachRandomPod(t, func(t *testing.T, _ *Service, before, after string, accepted bool) {
		t.Helper()
		pod, was := parsePod(t, after), parsePod(t, before)
		if _, mirror := pod.Annotations[mirrorPod]; mirror || !accepted || pod.Labels["bucket-access.io/injected"] != "orders" {
			return
		}
		status, _ := inject.ParseStatus(pod.Annotations["bucket-access.io/status"])
		if wanted := was.Annotations["bucket-access.io/reader"] == "true" && !was.Spec.HostNetwork; wanted != (status.Reader != nil) {
			t.Fatalf("wanted: %t, recorded: %v", wanted, status.Reader)
		}
		if status.Reader == nil {
			if len(pod.Spec.InitContainers) != len(was.Spec.InitContainers) {
				t.Fatal("an init container came or went")
			}
			return
		}
		seen++
		names, ports := map[string]int{}, map[int32]int{}
		for _, c := range containersOf(pod) {
			names[c.Name]++
			for _, port := range c.Ports {
				ports[port.ContainerPort]++
			}
		}
		reader := pod.Spec.InitContainers[len(pod.Spec.InitContainers)-1]
		if reader.Name != status.Reader.Name || names[reader.Name] != 1 || ports[reader.Ports[0].ContainerPort] != 1 {
			t.Fatalf("reader %s on port %d: %v %v", reader.Name, reader.Ports[0].ContainerPort, names, ports)
		}
		if reader.RestartPolicy == nil || *reader.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			t.Fatal("no native sidecar")
		}
	})
	if seen < enough {
		t.Fatalf("only %d readers", seen)
	}
}

func parsePod(t *testing.T, document string) *corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	if err := json.Unmarshal([]byte(document), &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

func containersOf(pod *corev1.Pod) []corev1.Container {
	return slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers)
}

// rawContainers are the containers as they are written, by name.
func rawContainers(t *testing.T, document string) map[string]string {
	t.Helper()
	var pod struct {
		Spec struct{ InitContainers, Containers []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(document), &pod); err != nil {
		t.Fatal(err)
	}
	raw := map[string]string{}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		var named struct{ Name string }
		if err := json.Unmarshal(container, &named); err != nil {
			t.Fatal(err)
		}
		raw[named.Name] = string(container)
	}
	return raw
}
