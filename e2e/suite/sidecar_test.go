package suite

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// restricted is a Pod that passes Pod Security's restricted level by itself.
func restricted(p *corev1.Pod) {
	p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(1000)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
}

// TestTheSidecar as the API server takes it.
func TestTheSidecar(t *testing.T) {
	a := newAccess(t, "reader: {inject: true, gate: Startup}")
	t.Run("passes restricted where the Pod does", func(t *testing.T) {
		namespace := &corev1.Namespace{}
		must(t, cluster.Client.Get(testContext(t), client.ObjectKey{Name: a.namespace}, namespace))
		namespace.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
		must(t, cluster.Client.Update(testContext(t), namespace))
		eventually(t, "restricted is in force", func() bool {
			_, err := apply(t, cluster, pod(a.namespace, "unrestricted"))
			return err != nil
		})
		if p := a.pod(t, "restricted", restricted); len(p.Spec.InitContainers) != 1 {
			t.Errorf("%d init containers", len(p.Spec.InitContainers))
		}
	})
	t.Run("holds back by exec probes and never restarts", func(t *testing.T) {
		for _, gate := range []string{"None", "Readiness", "Startup"} {
			a := newAccess(t, "reader: {inject: true, gate: "+gate+"}")
			sidecar := a.pod(t, "app").Spec.InitContainers[0]
			probes := map[string]*corev1.Probe{"Readiness": sidecar.ReadinessProbe, "Startup": sidecar.StartupProbe, "Liveness": sidecar.LivenessProbe}
			for kind, probe := range probes {
				if (probe != nil) != (kind == gate) || probe != nil && (probe.Exec == nil || probe.Exec.Command[1] != "check") {
					t.Errorf("gate %s: %s probe %v", gate, kind, probe)
				}
			}
			if gate == "Startup" && sidecar.StartupProbe.FailureThreshold != 1<<31-1 {
				t.Errorf("gives up after %d tries", sidecar.StartupProbe.FailureThreshold)
			}
		}
	})
	t.Run("stays as it is when the API server calls again", func(t *testing.T) {
		a := newAccess(t)
		p := a.pod(t, "once")
		copied := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: "twice", Labels: p.Labels, Annotations: p.Annotations}, Spec: p.Spec}
		copied.Spec.NodeName = ""
		again := created(t, cluster, copied)
		one, _ := json.Marshal(p.Spec.InitContainers)
		two, _ := json.Marshal(again.Spec.InitContainers)
		if string(one) != string(two) || p.Annotations["bucket-access.io/status"] != again.Annotations["bucket-access.io/status"] {
			t.Errorf("a copy of an injected Pod came out otherwise:\n%s\n%s", one, two)
		}
	})
	t.Run("by the annotation, and declined by it", func(t *testing.T) {
		without := newAccess(t, "reader: {inject: false}")
		if p := without.pod(t, "asks", annotation("bucket-access.io/reader", "true")); len(p.Spec.InitContainers) != 1 {
			t.Error("asked for by the annotation, and not there")
		}
		with := newAccess(t)
		if p := with.pod(t, "declines", annotation("bucket-access.io/reader", "false")); len(p.Spec.InitContainers) != 0 {
			t.Error("declined, and there")
		}
	})
}

// TestTheDemoDeployment is manifests/demo as it is: a Deployment's Pod through the
// webhook, its container as a process, its object by the name of its Service.
func TestTheDemoDeployment(t *testing.T) {
	b, err := accountB()
	must(t, err)
	ctx := testContext(t)
	p, err := cluster.ApplyPolicy(ctx, "orders", b.Document("orders-data", "orders-role", subject("default", "api-sa"), "reader: {inject: false}"))
	must(t, err)
	must(t, b.CreateBucket(ctx, p.Bucket, map[string]string{"config.json": "{}"}))
	must(t, b.CreateRole(ctx, p))
	if _, said, err := cluster.Kubectl(ctx, "", "apply", "-k", "manifests/demo"); err != nil {
		t.Fatal(said)
	}
	deployment := &appsv1.Deployment{}
	must(t, cluster.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: "api"}, deployment))
	template := deployment.Spec.Template
	injected := created(t, cluster, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "api-7d4f", Labels: template.Labels}, Spec: template.Spec,
	})
	address, err := lab.FreeAddress()
	must(t, err)
	r := &lab.ReaderProcess{Address: address}
	r.PodProcess = lab.PodProcess{Pod: injected, Container: "api", Extra: []string{"--listen=" + r.Address}}
	must(t, cluster.StartProcess(ctx, &r.PodProcess, "bucket-access-reader"))
	t.Cleanup(func() { r.Stop() })
	report, err := r.Report(ctx)
	must(t, err)
	if !report.Ready {
		t.Fatal(report.Line())
	}
	for host, want := range map[string]int{"api": 200, "api.default.svc.cluster.local:80": 200, "api.evil.example.com": 421} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Address+"/s3/config.json", http.NoBody)
		must(t, err)
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		must(t, err)
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: HTTP %d", host, answer.StatusCode)
		}
	}
	policies, said, err := cluster.Kubectl(ctx, "", "get", "networkpolicy", "api", "-o", "jsonpath={.spec.ingress[0].from[0].podSelector.matchLabels}")
	if err != nil || !strings.Contains(policies, "demo-client") {
		t.Errorf("the NetworkPolicy: %s %s", policies, said)
	}
}
