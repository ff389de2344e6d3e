package suite

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// golden is an input of pkg/admission's golden tests: a Pod and what stands around it.
type golden struct {
	Entry          string            `json:"entry"`
	Policy         string            `json:"policy"`
	NamespaceLabel string            `json:"namespaceLabel"`
	ServiceAccount map[string]string `json:"serviceAccount"`
	AccountLabel   string            `json:"accountLabel"`
	Region         string            `json:"region"`
	Old            json.RawMessage   `json:"oldObject"`
	Object         json.RawMessage   `json:"object"`
}

// said is what a user gets for a Pod.
type said struct {
	Message  string
	Warnings []string
	Patch    any
}

// furnish makes the cluster what the golden input says.
func (g *golden) furnish(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx := testContext(t)
	document := policyDocument(subject("default", "api-sa")+","+subject("default", "default")+","+subject("payments-secret-team", "ledger"), g.Policy)
	configMap := policyConfigMap("orders", document)
	must(t, client.IgnoreNotFound(l.Client.Delete(ctx, configMap.DeepCopy())))
	must(t, l.Client.Create(ctx, configMap))
	var namespace corev1.Namespace
	must(t, l.Client.Get(ctx, client.ObjectKey{Name: "default"}, &namespace))
	delete(namespace.Labels, "bucket-access.io/policy")
	if g.NamespaceLabel != "" {
		namespace.Labels["bucket-access.io/policy"] = g.NamespaceLabel
	}
	must(t, l.Client.Update(ctx, &namespace))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "api-sa", Annotations: g.ServiceAccount}}
	if g.AccountLabel != "" {
		account.Labels = map[string]string{"bucket-access.io/policy": g.AccountLabel}
	}
	must(t, client.IgnoreNotFound(l.Client.Delete(ctx, account.DeepCopy())))
	must(t, l.Client.Create(ctx, account))
	// The replicas of a lab are no Pods of a Deployment, but their flags are looked up there.
	args := []string{"--namespace=" + lab.Namespace, "--reader-image=" + readerImage}
	if g.Region != "" {
		args = append(args, "--cluster-region="+g.Region)
	}
	labels := map[string]string{"app": lab.Name}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: lab.Name}, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To[int32](0), Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "webhook", Image: "webhook", Args: args}}},
		},
	}}
	must(t, client.IgnoreNotFound(l.Client.Delete(ctx, deployment.DeepCopy())))
	must(t, l.Client.Create(ctx, deployment))
}

const readerImage = "registry.example.com/bucket-access-reader:v1"

// askReplica sends the Pod to a replica as an API server does, and returns its answer.
func (g *golden) askReplica(t *testing.T, l *lab.Lab, r *lab.Replica) said {
	t.Helper()
	var configuration registrationv1.MutatingWebhookConfiguration
	must(t, l.Client.Get(testContext(t), client.ObjectKey{Name: lab.Name}, &configuration))
	path, roots := "", x509.NewCertPool()
	for i := range configuration.Webhooks {
		roots.AppendCertsFromPEM(configuration.Webhooks[i].ClientConfig.CABundle)
		if strings.HasPrefix(configuration.Webhooks[i].Name, g.Entry+".") {
			path = *configuration.Webhooks[i].ClientConfig.Service.Path
		}
	}
	pods := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "0df28fbd", Kind: pods, RequestKind: &pods, Resource: resource, RequestResource: &resource, Namespace: "default",
			Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: g.Object},
		},
	})
	must(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: lab.Name + "." + lab.Namespace + ".svc", MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+r.Address()+path, bytes.NewReader(review))
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(request)
	must(t, err)
	defer answer.Body.Close()
	var reviewed admissionv1.AdmissionReview
	must(t, json.NewDecoder(answer.Body).Decode(&reviewed))
	got := said{Warnings: reviewed.Response.Warnings, Patch: []any{}}
	if reviewed.Response.Result != nil {
		got.Message = reviewed.Response.Result.Message
	}
	if len(reviewed.Response.Patch) > 0 {
		must(t, json.Unmarshal(reviewed.Response.Patch, &got.Patch))
	}
	return got
}

// render asks the plugin about the Pod, on the same cluster.
func (g *golden) render(t *testing.T, l *lab.Lab, flags ...string) (said, string) {
	t.Helper()
	stdout, stderr, _ := plugin(t, string(g.Object), nil, append([]string{
		"render", "--kubeconfig=" + l.Kubeconfig, "-f", "-", "-n", "default", "--from-cluster", "-o", "patch",
	}, flags...)...)
	if strings.Contains(stderr, "can't be read") {
		return said{}, stderr
	}
	var all []struct {
		said
		Verdict string
	}
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 1 {
		return said{}, fmt.Sprintf("%d verdicts, %v: %s%s", len(all), err, stdout, stderr)
	}
	if all[0].Verdict != "deny" {
		all[0].Message = "" // render gives the reason for what it lets through, too
	}
	return all[0].said, ""
}

// TestRenderIsTheLiveWebhookForEveryGoldenPod sends each to a replica and to the plugin: the
// patch, the sentence and the warnings are the same, whether flags say how the webhook runs or
// the plugin looks it up.
func TestRenderIsTheLiveWebhookForEveryGoldenPod(t *testing.T) {
	l, err := lab.Start(testContext(t), lab.Options{LogDir: os.Getenv("LOG_DIR")})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	replicas := map[string]*lab.Replica{}
	for region, name := range map[string]string{"": "anywhere", "us-west-2": "in-a-region"} {
		replicas[region], err = l.StartReplica(testContext(t), name, "--cluster-region="+region)
		must(t, err)
	}
	inputs, err := filepath.Glob(filepath.Join(l.Repository, "pkg", "admission", "testdata", "golden", "*.in.yaml"))
	must(t, err)
	compared, changed := 0, 0
	for _, input := range inputs {
		text, err := os.ReadFile(input)
		must(t, err)
		var g golden
		must(t, yaml.UnmarshalStrict(text, &g))
		if g.Entry == "ephemeral-containers" {
			continue // an update of what runs, which no manifest describes
		}
		t.Run(strings.TrimSuffix(filepath.Base(input), ".in.yaml"), func(t *testing.T) {
			replica := replicas[g.Region]
			if replica == nil {
				t.Fatalf("no replica is in %s", g.Region)
			}
			g.furnish(t, l)
			// The replica's cache follows the cluster; both must have seen the same.
			var diff string
			for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				live := g.askReplica(t, l, replica)
				rendered, wrong := g.render(t, l, "--reader-image="+readerImage, "--cluster-region="+g.Region)
				lookedUp, wrongToo := g.render(t, l)
				if diff = wrong + cmp.Diff(live, rendered) + wrongToo + cmp.Diff(live, lookedUp); diff == "" {
					compared++
					if list, _ := live.Patch.([]any); len(list) > 0 {
						changed++
					}
					return
				}
			}
			t.Errorf("-live +rendered: %s", diff)
		})
	}
	if compared < 40 || changed < 20 {
		t.Errorf("%d Pods were compared, and %d of them changed: too few to show anything", compared, changed)
	}
	t.Logf("%d Pods compared, %d of them changed", compared, changed)
}
