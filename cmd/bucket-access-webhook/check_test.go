package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// apiServer is what an API server answers to the check; the end-to-end suite has a real one.
type apiServer struct {
	bundles  [2]string // of the mutating and the validating configuration
	second   string    // bundle of a second mutating entry; empty is the first one's
	excluded []string
	actions  []admissionv1.ValidationAction
	pod      func(policy string) (status int, message string)
	labels   map[string]string // on a Pod that is let through
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const configuration = "/apis/admissionregistration.k8s.io/v1/"
	meta := metav1.ObjectMeta{Name: name}
	client := func(i int) admissionv1.WebhookClientConfig {
		service := &admissionv1.ServiceReference{Namespace: "own", Name: name}
		return admissionv1.WebhookClientConfig{CABundle: []byte(s.bundles[i]), Service: service}
	}
	answer := func(status int, object any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(object); err != nil {
			panic(err)
		}
	}
	switch path := strings.TrimPrefix(r.URL.Path, configuration); {
	case path == "mutatingwebhookconfigurations/"+name:
		requirement := metav1.LabelSelectorRequirement{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: s.excluded}
		selector := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{requirement}}
		second := client(0)
		if s.second != "" {
			second.CABundle = []byte(s.second)
		}
		answer(http.StatusOK, &admissionv1.MutatingWebhookConfiguration{ObjectMeta: meta, Webhooks: []admissionv1.MutatingWebhook{
			{Name: "pods.bucket-access.io", ClientConfig: client(0), NamespaceSelector: selector},
			{Name: "namespaced-pods.bucket-access.io", ClientConfig: second},
		}})
	case path == "validatingwebhookconfigurations/"+name:
		answer(http.StatusOK, &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: meta, Webhooks: []admissionv1.ValidatingWebhook{
			{Name: "policies.bucket-access.io", ClientConfig: client(1)},
		}})
	case strings.HasPrefix(path, "validatingadmissionpolicies/"):
		answer(http.StatusOK, &admissionv1.ValidatingAdmissionPolicy{})
	case strings.HasPrefix(path, "validatingadmissionpolicybindings/"):
		spec := admissionv1.ValidatingAdmissionPolicyBindingSpec{ValidationActions: s.actions}
		answer(http.StatusOK, &admissionv1.ValidatingAdmissionPolicyBinding{Spec: spec})
	case r.URL.Path == "/api/v1/namespaces/default/pods" && r.URL.Query().Get("dryRun") == "All":
		var pod corev1.Pod
		body, _ := io.ReadAll(r.Body)
		_, _, _ = scheme.Codecs.UniversalDeserializer().Decode(body, nil, &pod) // JSON or protobuf
		if status, message := s.pod(pod.Labels["bucket-access.io/policy"]); status != http.StatusCreated {
			answer(status, refusal(status, metav1.StatusReasonForbidden, message))
			return
		}
		pod.Labels = s.labels
		answer(http.StatusCreated, &pod)
	default:
		answer(http.StatusNotFound, refusal(http.StatusNotFound, metav1.StatusReasonNotFound, path))
	}
}

func refusal(status int, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(status), Reason: reason, Message: message,
	}
}

// authority makes a CA, as PEM.
func authority(t *testing.T, start time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

const denied = `admission webhook "pods.bucket-access.io" denied the request: bucket-access: `

// well answers as the webhook does, with one policy that lists nobody.
func well(policy string) (status int, message string) {
	if policy == "orders" {
		return http.StatusForbidden, denied + `policy "orders" does not list system:serviceaccount:default:default; of namespace "default" it lists none`
	}
	return http.StatusForbidden, denied + `the label bucket-access.io/policy on the Pod names policy "` + policy + `", which does not exist; correct it`
}

func TestCheckSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	ca, former := authority(t, time.Now()), authority(t, time.Now().Add(-time.Minute))
	answers := func(status int, message string) func(*apiServer) {
		return func(s *apiServer) { s.pod = func(string) (int, string) { return status, message } }
	}
	failed := func(message string) func(*apiServer) {
		return answers(http.StatusInternalServerError, `failed calling webhook "pods.bucket-access.io": `+message)
	}
	through := func(labels map[string]string) func(*apiServer) { // the Pods of one policy only
		return func(s *apiServer) {
			s.labels = labels
			s.pod = func(policy string) (int, string) {
				if policy == "orders" {
					return http.StatusCreated, ""
				}
				return well(policy)
			}
		}
	}
	orders, injected := []string{"--policies=orders"}, map[string]string{"bucket-access.io/injected": "orders"}
	for test, row := range map[string]struct {
		change func(*apiServer)
		args   []string
		code   int
		want   []string
	}{
		"all is well": {nil, []string{"--policies=orders", "--backstops"}, 0, []string{"OK    policy orders is in force", "All 7 checks passed."}},
		"bundles written otherwise": {func(s *apiServer) { s.bundles[1] = "# the CA\n" + ca }, nil, 0,
			[]string{"All 3 checks passed."}},
		"a former CA in one mutating entry": {func(s *apiServer) { s.second = former }, nil, 1,
			[]string{"not the CA that Pods' entry has, in namespaced-pods.bucket-access.io: one of the two", "cainjector", "1 of 3 checks failed."}},
		"a policy that injects": {through(injected), orders, 0, []string{"All 4 checks passed."}},
		"a policy that does nothing": {through(nil), orders, 1,
			[]string{"FAIL  policy orders is in force: a Pod that asks for it came back without it"}},
		"a policy that is missing": {nil, []string{"--policies=other"}, 1,
			[]string{"FAIL  policy other is in force", "correct the policy: kubectl -n own get events", "1 of 4 checks failed."}},
		"the Pod is let through": {answers(http.StatusCreated, ""), orders, 1, []string{"it was let through", "1 of 3 checks failed."}},
		"another policy's name":  {answers(well("x")), nil, 1, []string{"the webhook answered, but not to what was asked"}},
		"somebody else's refusal": {answers(http.StatusForbidden, `admission webhook "other.example.com" denied the request: no`), nil, 1,
			[]string{"something else stands in the way"}},
		"an untrusted certificate": {failed("tls: x509: unknown"), nil, 1, []string{"does not trust", "cainjector"}},
		"no endpoints":             {failed("no endpoints available for service"), nil, 1, []string{"no replica answers", "kubectl -n own get pods"}},
		"no way":                   {failed("context deadline exceeded"), nil, 1, []string{"can't reach the webhook", "NetworkPolicy"}},
		"the backstop": {answers(http.StatusForbidden, `ValidatingAdmissionPolicy 'bucket-access-webhook-pods' denied request`), nil, 1,
			[]string{"a backstop refused the Pod"}},
		"no right": {answers(http.StatusForbidden, `User "x" cannot create resource "pods"`), nil, 1, []string{"let the check create Pods"}},
		"an excluded namespace": {func(s *apiServer) { s.excluded = []string{"default"} }, nil, 1,
			[]string{"it leaves the namespace default alone", "tests.namespace"}},
		"no caBundle": {func(s *apiServer) { s.bundles = [2]string{} }, nil, 1,
			[]string{"no caBundle in pods.bucket-access.io", "no caBundle in policies.bucket-access.io", "2 of 3"}},
		"a former CA in one bundle": {func(s *apiServer) { s.bundles[0] = ca + former }, nil, 0, []string{"All 3 checks passed."}},
		"a former CA alone": {func(s *apiServer) { s.bundles = [2]string{former + ca, former} }, nil, 1,
			[]string{"not the CA that Pods' entry has, in policies.bucket-access.io"}},
		"a backstop that audits": {func(s *apiServer) { s.actions = []admissionv1.ValidationAction{"Audit"} }, []string{"--backstops"}, 1,
			[]string{"its binding does not deny", "3 of 6"}},
		"a namespace that is not": {nil, []string{"--namespace=nowhere"}, 1, []string{"a namespace that exists"}},
		"another name": {nil, []string{"--webhook-configuration=other"}, 1,
			[]string{"FAIL  MutatingWebhookConfiguration other: it does not exist"}},
	} {
		t.Run(test, func(t *testing.T) {
			server := &apiServer{bundles: [2]string{ca, ca}, actions: []admissionv1.ValidationAction{admissionv1.Deny}, excluded: []string{"own"}, pod: well}
			if row.change != nil {
				row.change(server)
			}
			code, out := runCheck(t, server, row.args...)
			if code != row.code {
				t.Errorf("code %d, want %d", code, row.code)
			}
			for _, want := range row.want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in: %s", want, out)
				}
			}
			if fails, fixes := strings.Count(out, "FAIL "), strings.Count(out, "what to do: "); fails != fixes {
				t.Errorf("%d fail and %d say what to do: %s", fails, fixes, out)
			}
		})
	}
}

func runCheck(t *testing.T, server http.Handler, args ...string) (code int, out string) {
	t.Helper()
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := `{"apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "x"}}],
		"clusters": [{"name": "x", "cluster": {"server": "` + listening.URL + `"}}]}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"check", "--kubeconfig=" + path, "--timeout=0"}, args...), &stdout, &stderr)
	if stderr.Len() > 0 {
		t.Errorf("stderr: %s", stderr.String())
	}
	return code, stdout.String()
}

// TestCheckWaitsForAnInstallationThatComesUp: a test right after an installation.
func TestCheckWaitsForAnInstallationThatComesUp(t *testing.T) {
	ca, tries := authority(t, time.Now()), 0
	server := &apiServer{bundles: [2]string{ca, ca}, excluded: []string{"own"}, pod: func(policy string) (int, string) {
		if tries++; tries == 1 {
			return 500, `failed calling webhook "x": no endpoints available for service`
		}
		return well(policy)
	}}
	if code, out := runCheck(t, server, "--timeout=30s"); code != 0 || tries != 2 || strings.Contains(out, "FAIL") {
		t.Fatalf("code %d after %d tries: %s", code, tries, out)
	}
}

func TestTheCommandLineOfCheck(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"help":                {[]string{"--help"}, 0, `-namespace string`},
		"an unknown flag":     {[]string{"--port=1"}, 2, "flag provided but not defined: -port"},
		"an argument":         {[]string{"now"}, 2, `unexpected argument "now"`},
		"no namespace":        {[]string{"--namespace="}, 2, "must not be empty"},
		"a time-out":          {[]string{"--timeout=-1s"}, 2, "--timeout must not be negative"},
		"no kubeconfig there": {[]string{"--kubeconfig=/nowhere"}, 1, "no access to a cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			code := run(t.Context(), append([]string{"check"}, test.args...), io.Discard, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.want) {
				t.Fatalf("code %d: %s", code, stderr.String())
			}
		})
	}
}
