package suite

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestPatchedPodsAreAccepted: whatever valid Pod asks for the policy is accepted by
// the API server with our patch, or refused with our sentence; never broken by us.
func TestPatchedPodsAreAccepted(t *testing.T) {
	newPolicy(t, cluster, "random", subject("*", "api-sa"))
	ns := newNamespace(t, cluster, nil, "api-sa")
	injected, refused := 0, 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		plain := randomPod(random, ns)
		if err := cluster.Client.Create(testContext(t), plain.DeepCopy(), client.DryRunAll); err != nil {
			continue // not valid by itself
		}
		asks := plain.DeepCopy()
		asks.Labels["bucket-access.io/policy"] = "random"
		err := cluster.Client.Create(testContext(t), asks, client.DryRunAll)
		switch {
		case err == nil:
			injected++
		case strings.Contains(err.Error(), "bucket-access: ") && !strings.Contains(err.Error(), "did not see it"):
			refused++
		default:
			t.Errorf("seed %d: valid without us, but: %v", seed, err)
		}
	}
	t.Logf("%d accepted with our patch, %d refused with our sentence", injected, refused)
	if injected < 100 || refused < 20 {
		t.Fatal("the random Pods prove little")
	}
}

func randomPod(random *rand.Rand, ns string) *corev1.Pod {
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	p := pod(ns, "random")
	if random.IntN(2) == 0 {
		p.Name, p.GenerateName = "", "random-"
	}
	token := corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
		ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: pick("sts.amazonaws.com", "sts.amazonaws.com", "vault"), Path: "token"},
	}}}}
	p.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	if random.IntN(3) == 0 {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: eksVolume, VolumeSource: token})
	}
	p.Spec.Containers = nil
	for i := range 1 + random.IntN(3) {
		c := corev1.Container{Name: fmt.Sprintf("c%d", i), Image: "registry.example.com/app:v1"}
		for range random.IntN(6) {
			c.Env = append(c.Env, corev1.EnvVar{
				Name:  pick("APP", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_SESSION_NAME", "BUCKET_REGION", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_WEB_IDENTITY_TOKEN_FILE"),
				Value: pick("", "eu-west-1", "us-west-2", eksPath+"/token"),
			})
		}
		if random.IntN(3) == 0 {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: pick("data", eksVolume), MountPath: pick("/data", eksPath, eksPath+"/")})
		}
		if i > 0 && random.IntN(3) == 0 {
			if random.IntN(2) == 0 {
				c.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
			}
			p.Spec.InitContainers = append(p.Spec.InitContainers, c)
		} else {
			c.RestartPolicy = nil
			p.Spec.Containers = append(p.Spec.Containers, c)
		}
	}
	switch random.IntN(5) {
	case 0:
		p.Spec.OS = &corev1.PodOS{Name: corev1.Windows}
	case 1:
		p.Spec.HostNetwork = true
	case 2:
		p.Spec.AutomountServiceAccountToken = ptr.To(false)
	}
	return p
}
