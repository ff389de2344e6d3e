package suite

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// The mutators stand for other admission webhooks of a cluster. EKS's own can't be
// had outside of EKS; eksMutator does what its published behaviour is: it resends
// whole containers from a typed decode, judges groups of variables together and
// volumes and mounts by name only, and puts its volume at index 0.

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// mutator answers Pod reviews with what mutate makes of the Pod.
func mutator(mutate func(ctx context.Context, namespace string, pod *corev1.Pod) []operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		var pod corev1.Pod
		if json.NewDecoder(r.Body).Decode(&review) != nil || json.Unmarshal(review.Request.Object.Raw, &pod) != nil {
			http.Error(w, "bad review", http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if operations := mutate(r.Context(), review.Request.Namespace, &pod); len(operations) > 0 {
			review.Response.Patch, _ = json.Marshal(operations)
			review.Response.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
		}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}
}

const (
	eksVolume = "aws-iam-token"
	eksPath   = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
)

// eksMutator is the model of EKS's pod-identity-webhook in a region.
func eksMutator(accounts client.Reader, region string) http.HandlerFunc {
	return mutator(func(ctx context.Context, namespace string, pod *corev1.Pod) []operation {
		var account corev1.ServiceAccount
		key := client.ObjectKey{Namespace: namespace, Name: pod.Spec.ServiceAccountName}
		if accounts.Get(ctx, key, &account) != nil || account.Annotations["eks.amazonaws.com/role-arn"] == "" {
			return nil
		}
		return eksOperations(pod, &account, region)
	})
}

func eksOperations(pod *corev1.Pod, account *corev1.ServiceAccount, region string) []operation {
	annotation := func(name, fallback string) string {
		if value, ok := account.Annotations["eks.amazonaws.com/"+name]; ok {
			return value
		}
		return fallback
	}
	expiration, _ := strconv.ParseInt(annotation("token-expiration", "86400"), 10, 64)
	if own, err := strconv.ParseInt(pod.Annotations["eks.amazonaws.com/token-expiration"], 10, 64); err == nil {
		expiration = own
	}
	expiration = max(expiration, 600)
	skipped, _ := csv.NewReader(strings.NewReader(pod.Annotations["eks.amazonaws.com/skip-containers"])).Read()
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if !slices.Contains(skipped, list[i].Name) {
				eksContainer(&list[i], annotation("role-arn", ""), region)
			}
		}
	}
	var operations []operation
	if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == eksVolume }) {
		volume := corev1.Volume{Name: eksVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: annotation("audience", "sts.amazonaws.com"), ExpirationSeconds: &expiration, Path: "token",
			}}},
		}}}
		if pod.Spec.Volumes == nil {
			operations = append(operations, operation{"add", "/spec/volumes", []corev1.Volume{volume}})
		} else {
			operations = append(operations, operation{"add", "/spec/volumes/0", volume})
		}
	}
	operations = append(operations, operation{"add", "/spec/containers", pod.Spec.Containers})
	if len(pod.Spec.InitContainers) > 0 {
		operations = append(operations, operation{"add", "/spec/initContainers", pod.Spec.InitContainers})
	}
	return operations
}

func eksContainer(c *corev1.Container, role, region string) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return slices.Contains(names, e.Name) })
	}
	identity := has("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
	regions, sts := has("AWS_REGION", "AWS_DEFAULT_REGION"), has("AWS_STS_REGIONAL_ENDPOINTS")
	if identity && regions && sts {
		return
	}
	add := func(name, value string) { c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value}) }
	if !sts {
		add("AWS_STS_REGIONAL_ENDPOINTS", "regional")
	}
	if !regions {
		add("AWS_DEFAULT_REGION", region)
		add("AWS_REGION", region)
	}
	if !identity {
		add("AWS_ROLE_ARN", role)
		add("AWS_WEB_IDENTITY_TOKEN_FILE", eksPath+"/token")
	}
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == eksVolume }) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: eksVolume, ReadOnly: true, MountPath: eksPath})
	}
}

// sidecarMutator adds a container at the end, once.
var sidecarMutator = mutator(func(_ context.Context, _ string, pod *corev1.Pod) []operation {
	if slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == "late" }) {
		return nil
	}
	return []operation{{"add", "/spec/containers/-", corev1.Container{Name: "late", Image: "registry.example.com/late:v1"}}}
})

// register makes the API server call handler for Pods of Namespaces with the label
// test-mutator-<name>, in the order of name among all webhook configurations.
func register(t *testing.T, l *lab.Lab, name string, handler http.Handler) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	configuration := &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []registrationv1.MutatingWebhook{{
			Name: name + ".example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: ptr.To(registrationv1.SideEffectClassNone),
			ClientConfig:       registrationv1.WebhookClientConfig{URL: ptr.To(server.URL), CABundle: bundle},
			ReinvocationPolicy: ptr.To(registrationv1.IfNeededReinvocationPolicy),
			FailurePolicy:      ptr.To(registrationv1.Fail),
			NamespaceSelector:  &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "test-mutator-" + name, Operator: "Exists"}}},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	must(t, l.Client.Create(testContext(t), configuration))
	t.Cleanup(func() { _ = l.Client.Delete(context.Background(), configuration) })
}
