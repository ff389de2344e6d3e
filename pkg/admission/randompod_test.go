package admission

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/randfill"
)

const (
	policyRole = "arn:aws:iam::222222222222:role/s3-reader-role"
	roleA      = "arn:aws:iam::111111111111:role/role-a"
)

// unknownFields stand for fields of a later Kubernetes, with numbers that a round
// trip through float64 would change.
var unknownFields = []string{`:12345678901234567890,`, `:2.50,`, `:{"a":[1e2,null,"\u00e9"]},`}

// randomPod is a Pod as JSON: most of it is noise from randfill, the parts that the
// webhook reads are drawn from values that matter, and unknown fields are strewn in.
func randomPod(random *rand.Rand) string {
	pod := &corev1.Pod{}
	filler := randfill.NewWithSeed(int64(random.Uint64()>>1)).NilChance(.7).NumElements(0, 2).MaxDepth(6).Funcs(
		func(s *string, c randfill.Continue) { *s = fmt.Sprintf("text-%d", c.Intn(100)) },
	)
	filler.Fill(&pod.Spec.Affinity)
	filler.Fill(&pod.Spec.DNSConfig)
	filler.Fill(&pod.Spec.Tolerations)
	filler.Fill(&pod.Spec.HostAliases)
	filler.Fill(&pod.OwnerReferences)
	pod.APIVersion, pod.Kind, pod.Namespace = "v1", "Pod", "default"
	pod.Spec.ServiceAccountName = "api-sa"
	if random.IntN(2) == 0 {
		pod.GenerateName = "orders-"
	} else {
		pod.Name = pick(random, "orders-api", "o", strings.Repeat("long", 17))
	}
	pod.Labels = randomKeys(random, map[string][]string{
		"bucket-access.io/policy": {"orders", "orders", "orders", "none", "unknown"}, "bucket-access.io/injected": {"orders", "old"},
		"app": {"orders"}, "eks.amazonaws.com/pod-identity": {"enabled"},
	})
	pod.Annotations = randomKeys(random, map[string][]string{
		"bucket-access.io/skip-containers": {"c1", "c0,c1", "c0, c1", `"`}, "eks.amazonaws.com/skip-containers": {"c2", ""},
		"bucket-access.io/include-containers": {"c0,c1,c2", "c0", "nobody"},
		"eks.amazonaws.com/token-expiration":  {"900", "900", "86400", "5", "soon"},
		"bucket-access.io/reader":             {"true", "true", "false", "perhaps"},
		"bucket-access.io/status":             {`{"policy":"old","reader":{"name":"i0","hash":"forged"}}`, `{"policy":"old","env":{"AWS_ROLE_ARN":"` + roleA + `","OLD_BUCKET":"old"},"audience":"old"}`, `{`, ""},
		"kubernetes.io/config.mirror":         {""},
		"prometheus.io/scrape":                {"true"},
	})
	delete(pod.Annotations, map[bool]string{true: "", false: "kubernetes.io/config.mirror"}[random.IntN(8) == 0])
	pod.Spec.Volumes = randomVolumes(random)
	for i := range random.IntN(3) {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(random, filler, fmt.Sprintf("i%d", i)))
	}
	pod.Spec.HostNetwork = random.IntN(8) == 0
	if random.IntN(8) == 0 {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, randomContainer(random, filler, "bucket-access-reader"))
	}
	for i := range 1 + random.IntN(3) {
		pod.Spec.Containers = append(pod.Spec.Containers, randomContainer(random, filler, fmt.Sprintf("c%d", i)))
	}
	if random.IntN(3) == 0 {
		restrict(pod)
	}
	return withUnknownFields(random, pod)
}

func pick[T any](random *rand.Rand, choices ...T) T { return choices[random.IntN(len(choices))] }

// randomKeys keeps each key with a chance of one in three; no key at all is no map.
func randomKeys(random *rand.Rand, choices map[string][]string) map[string]string {
	var values map[string]string
	for _, key := range slices.Sorted(maps.Keys(choices)) {
		if random.IntN(3) == 0 || key == "bucket-access.io/policy" && random.IntN(3) > 0 {
			if values == nil {
				values = map[string]string{}
			}
			values[key] = pick(random, choices[key]...)
		}
	}
	return values
}

func randomVolumes(random *rand.Rand) []corev1.Volume {
	token := func(audience, path string) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, Path: path, ExpirationSeconds: ptr.To(int64(86400))},
		}}}}
	}
	volumes := []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	switch random.IntN(10) {
	case 0, 1:
		volumes = append(volumes, corev1.Volume{Name: "aws-iam-token", VolumeSource: token("sts.amazonaws.com", "token")})
	case 2:
		volumes = append(volumes, corev1.Volume{Name: "aws-iam-token", VolumeSource: token("other-audience", "token")})
	case 3:
		volumes = append(volumes, corev1.Volume{Name: "aws-iam-token", VolumeSource: token("sts.amazonaws.com", "elsewhere")})
	case 4:
		volumes = append(volumes, corev1.Volume{Name: "aws-iam-token", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	case 5:
		return nil
	}
	return volumes
}

func randomContainer(random *rand.Rand, filler *randfill.Filler, name string) corev1.Container {
	c := corev1.Container{}
	filler.Fill(&c.Resources)
	filler.Fill(&c.Lifecycle)
	if random.IntN(4) == 0 {
		c.Ports = []corev1.ContainerPort{{ContainerPort: int32(pick(random, 8080, 21840, 21841))}}
	}
	c.Name, c.Image = name, "registry.example.com/"+name
	names := []string{
		"APP", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_STS_REGIONAL_ENDPOINTS",
		"AWS_ROLE_SESSION_NAME", "BUCKET_NAME", "BUCKET_REGION", "AWS_EC2_METADATA_DISABLED", "AWS_ACCESS_KEY_ID", "OLD_BUCKET",
	}
	values := map[string][]string{
		"AWS_ROLE_ARN":                {roleA, policyRole, "", "arn:aws:iam::333333333333:role/users-own"},
		"AWS_WEB_IDENTITY_TOKEN_FILE": {"/var/run/secrets/eks.amazonaws.com/serviceaccount/token", "/other/token"},
		"AWS_REGION":                  {"eu-west-1", "us-west-2", "ap-south-1"}, "AWS_DEFAULT_REGION": {"eu-west-1", "us-west-2"},
		"BUCKET_NAME": {"orders-data", "", "users-own"}, "AWS_EC2_METADATA_DISABLED": {"true", "TRUE", "false"},
		"AWS_ACCESS_KEY_ID": {"", "", "AKIAEXAMPLE"}, "OLD_BUCKET": {"old", "new"},
	}
	for range random.IntN(5) {
		entry := corev1.EnvVar{Name: pick(random, names...)}
		switch {
		case random.IntN(12) == 0:
			entry.ValueFrom = &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}
		case values[entry.Name] != nil:
			entry.Value = pick(random, values[entry.Name]...)
		default:
			entry.Value = fmt.Sprintf("value \"%d\"\n", random.IntN(9))
		}
		c.Env = append(c.Env, entry)
	}
	for range random.IntN(2) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "data", MountPath: "/data"})
	}
	if random.IntN(6) == 0 {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{
			Name: pick(random, "aws-iam-token", "aws-iam-token", "data"), MountPath: "/var/run/secrets/eks.amazonaws.com/serviceaccount",
		})
	}
	return c
}

// restrict makes the Pod pass Pod Security's restricted level.
func restrict(pod *corev1.Pod) {
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			list[i].Lifecycle = nil
			list[i].SecurityContext = &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}
		}
	}
}

// withUnknownFields strews unknown fields in front of known ones, so everywhere:
// the Pod, its metadata and spec, containers, env entries, volumes, mounts.
func withUnknownFields(random *rand.Rand, pod *corev1.Pod) string {
	document, err := json.Marshal(pod)
	if err != nil {
		panic(err)
	}
	text := string(document)
	anchors := []string{
		`{"name":"c0"`, `{"name":"i0"`, `"containers":[`, `"serviceAccountName"`, `"namespace":"default"`,
		`{"name":"AWS_ROLE_ARN"`, `{"name":"aws-iam-token"`, `{"name":"data"`,
	}
	for i, anchor := range anchors {
		if random.IntN(2) == 0 && (!strings.Contains(anchor, "AWS_") || !hasDuplicates(pod)) {
			unknown := fmt.Sprintf(`"x-future-%d"`, i) + unknownFields[random.IntN(len(unknownFields))]
			if strings.HasPrefix(anchor, "{") {
				text = strings.ReplaceAll(text, anchor, "{"+unknown+anchor[1:])
			} else {
				text = strings.Replace(text, anchor, unknown+anchor, 1)
			}
		}
	}
	return text
}

// hasDuplicates: the earlier entries of a duplicate name are removed as a whole.
func hasDuplicates(pod *corev1.Pod) bool {
	for _, c := range containersOf(pod) {
		seen := map[string]bool{}
		for _, e := range c.Env {
			if seen[e.Name] {
				return true
			}
			seen[e.Name] = true
		}
	}
	return false
}
