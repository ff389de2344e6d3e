package suite

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const roleA = "arn:aws:iam::111111111111:role/role-a"

// shapes are the Pods that are created in every order.
var shapes = map[string]func(*corev1.Pod){
	"plain": func(*corev1.Pod) {},
	"init container and native sidecar": func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{
			{Name: "migrate", Image: "registry.example.com/app:v1"},
			{Name: "proxy", Image: "registry.example.com/proxy:v1", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
		}
	},
	"half an identity":       env("AWS_ROLE_ARN", "arn:aws:iam::222222222222:role/s3-reader-role"),
	"a region of the user's": env("AWS_REGION", "ap-south-1"),
	"Pod Identity beside":    podIdentity,
	"a skipped container": func(p *corev1.Pod) {
		p.Annotations["eks.amazonaws.com/skip-containers"] = "other"
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: "registry.example.com/other:v1"})
	},
	"the reader": func(p *corev1.Pod) {
		annotation("bucket-access.io/reader", "true")(p)
		p.Spec.InitContainers = []corev1.Container{{Name: "migrate", Image: "registry.example.com/app:v1"}}
	},
	"a lifetime of the user's": annotation("eks.amazonaws.com/token-expiration", "900"),
}

func podIdentity(p *corev1.Pod) {
	p.Labels["eks.amazonaws.com/pod-identity"] = "enabled"
	env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials")(p)
	p.Spec.Volumes = []corev1.Volume{{Name: "eks-pod-identity-token", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
}

// accounts are the ways in which a ServiceAccount may be annotated for EKS.
var accounts = map[string]map[string]string{
	"not annotated":    nil,
	"our role":         {"eks.amazonaws.com/role-arn": "arn:aws:iam::222222222222:role/s3-reader-role"},
	"another role":     {"eks.amazonaws.com/role-arn": roleA},
	"another audience": {"eks.amazonaws.com/role-arn": roleA, "eks.amazonaws.com/audience": "other-audience"},
}

// anyOrder creates every shape by every ServiceAccount without any other webhook,
// and then with EKS's before and after ours and with one that adds a sidecar late:
// always the same volumes, mounts and variables.
func anyOrder(t *testing.T, l *lab.Lab, eksRegions ...string) {
	t.Helper()
	const late = "zz-sidecar"
	register(t, l, late, sidecarMutator)
	mutators := []string{}
	for i, region := range eksRegions {
		for _, name := range []string{fmt.Sprintf("aaa-eks-%d", i), fmt.Sprintf("pod-identity-webhook-%d", i)} {
			register(t, l, name, eksMutator(l.Client, region))
			mutators = append(mutators, name)
		}
	}
	for accountName, annotations := range accounts {
		alone := orderNamespace(t, l, annotations)
		aloneLate := orderNamespace(t, l, annotations, late)
		waitForMutator(t, l, aloneLate, "late")
		for _, name := range mutators {
			for _, others := range [][]string{{name}, {name, late}} {
				ns := orderNamespace(t, l, annotations, others...)
				reference := alone
				if len(others) == 2 {
					reference = aloneLate
				}
				if annotations != nil {
					waitForMutator(t, l, ns, eksVolume)
				}
				for shapeName, shape := range shapes {
					t.Run(strings.Join([]string{accountName, strings.Join(others, "+"), shapeName}, "/"), func(t *testing.T) {
						want := essence(t, l, reference, shape)
						got := essence(t, l, ns, shape)
						if diff := cmp.Diff(want, got); diff != "" {
							t.Fatalf("not the same as without the other webhook:\n%s", diff)
						}
					})
				}
			}
		}
	}
}

// orderNamespace makes a Namespace in which the named mutators run, and its
// ServiceAccount.
func orderNamespace(t *testing.T, l *lab.Lab, annotations map[string]string, mutators ...string) string {
	t.Helper()
	labels := map[string]string{}
	for _, name := range mutators {
		labels["test-mutator-"+name] = ""
	}
	ns := newNamespace(t, l, labels)
	must(t, l.Client.Create(testContext(t), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "api-sa", Annotations: annotations}}))
	return ns
}

// waitForMutator waits until the API server calls a freshly registered webhook: what
// it adds is seen on a Pod that asks for no policy.
func waitForMutator(t *testing.T, l *lab.Lab, ns, added string) {
	t.Helper()
	eventually(t, "the other webhook is called", func() bool {
		p := pod(ns, "probe")
		must(t, l.Client.Create(testContext(t), p, client.DryRunAll))
		document, _ := json.Marshal(p.Spec)
		return strings.Contains(string(document), fmt.Sprintf("%q", added))
	})
}

// essence is what must not depend on the order: per container the variables and
// mounts, and the volumes; sorted, without what the API server itself adds.
func essence(t *testing.T, l *lab.Lab, ns string, shape func(*corev1.Pod)) map[string][]string {
	t.Helper()
	p := pod(ns, "app", label("bucket-access.io/policy", "any-order"), shape)
	must(t, l.Client.Create(testContext(t), p, client.DryRunAll))
	result := map[string][]string{"injected": {p.Labels["bucket-access.io/injected"], p.Annotations["bucket-access.io/status"]}}
	for _, v := range p.Spec.Volumes {
		if !strings.HasPrefix(v.Name, "kube-api-access") {
			document, err := json.Marshal(v)
			must(t, err)
			result["volumes"] = append(result["volumes"], string(document))
		}
	}
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if p.Annotations["eks.amazonaws.com/skip-containers"] == c.Name {
			continue
		}
		for _, e := range c.Env {
			document, err := json.Marshal(e)
			must(t, err)
			result[c.Name] = append(result[c.Name], string(document))
		}
		if len(c.Args) > 0 {
			result[c.Name] = append(result[c.Name], strings.Join(c.Args, " "))
		}
		for _, m := range c.VolumeMounts {
			if !strings.HasPrefix(m.Name, "kube-api-access") {
				result[c.Name] = append(result[c.Name], fmt.Sprintf("%s %s %t", m.Name, m.MountPath, m.ReadOnly))
			}
		}
	}
	for _, list := range result {
		for i := range list { // the reader is told its Namespace, which is another for each order
			list[i] = readerHash.ReplaceAllString(strings.ReplaceAll(list[i], ns, "NAMESPACE"), "$1")
		}
		slices.Sort(list)
	}
	return result
}

var readerHash = regexp.MustCompile(`("reader":{"name":"[^"]*"),"hash":"[0-9a-f]{16}"`)

func TestAnyOrderWithEKSInTheBucketsRegionAndInAnUnknownOne(t *testing.T) {
	newPolicy(t, cluster, "any-order", subject("*", "api-sa"))
	anyOrder(t, cluster, "eu-west-1", "us-west-2")
}
