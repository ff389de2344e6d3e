package suite

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// accountB is the shared lab's Account B, with the provider of its cluster.
var accountB = sync.OnceValues(func() (*lab.AccountB, error) {
	ctx, cancel := contextFor(time.Minute)
	defer cancel()
	b, err := cluster.StartAccountB(ctx)
	if err != nil {
		return nil, err
	}
	return b, b.CreateProvider(ctx, "sts.amazonaws.com")
})

// access is one policy with its bucket, its role and a Namespace whose ServiceAccount
// api-sa it lists: set up as users do, with the documents that are generated.
type access struct {
	b         *lab.AccountB
	policy    *policy.Policy
	namespace string
	content   []byte        // of the object config.json
	trust     *iam.Document // as a test has changed it; nil while it is the generated one
}

var accesses int

func newAccess(tb testing.TB, more ...string) *access {
	tb.Helper()
	b, err := accountB()
	must(tb, err)
	accesses++
	name := fmt.Sprintf("access-%d", accesses)
	a := &access{b: b, namespace: newNamespace(tb, cluster, nil, "api-sa", "other"), content: make([]byte, 300_000)}
	_, _ = rand.Read(a.content)
	ctx := testContext(tb)
	a.policy, err = cluster.ApplyPolicy(ctx, name, b.Document(name+"-data", name+"-role", subject(a.namespace, "api-sa"), more...))
	must(tb, err)
	must(tb, b.CreateBucket(ctx, a.policy.Bucket, map[string]string{"config.json": string(a.content)}))
	must(tb, b.CreateRole(ctx, a.policy))
	return a
}

// pod is a labelled Pod, created through the webhook.
func (a *access) pod(tb testing.TB, name string, edits ...func(*corev1.Pod)) *corev1.Pod {
	tb.Helper()
	return created(tb, cluster, pod(a.namespace, name, append([]func(*corev1.Pod){label("bucket-access.io/policy", a.policy.Name)}, edits...)...))
}

// reader starts the sidecar of a Pod.
func (a *access) reader(tb testing.TB, p *corev1.Pod, edit func(*lab.PodStart), flags ...string) *lab.ReaderProcess {
	tb.Helper()
	r, err := cluster.StartReader(testContext(tb), p, edit, flags...)
	must(tb, err)
	tb.Cleanup(func() {
		r.Stop()
		if text, err := os.ReadFile(r.Log); err == nil && tb.Failed() {
			tb.Logf("the reader's log:\n%s", text)
		}
	})
	return r
}

// TestAnObjectIsReallyRead: a policy, a label, a Pod that the webhook has patched, a
// token of the API server, a session of the real STS, and the object's own bytes.
func TestAnObjectIsReallyRead(t *testing.T) {
	a := newAccess(t)
	var env []string
	r := a.reader(t, a.pod(t, "app"), func(start *lab.PodStart) { env = start.Env })
	report, err := r.Report(testContext(t))
	must(t, err)
	if !report.Ready || report.Identity == nil || report.Identity.Account != lab.AccountBID || !strings.Contains(report.Identity.ARN, "/access-") {
		t.Fatalf("%s: %+v", report.Line(), report.Identity)
	}
	if want := "system:serviceaccount:" + a.namespace + ":api-sa"; report.Claims.Subject != want || report.Claims.Issuer != cluster.Issuer || report.Claims.Pod != "app" {
		t.Errorf("%+v", report.Claims)
	}
	if status, body, err := r.Get(testContext(t), "/s3/config.json"); err != nil || status != 200 || string(body) != string(a.content) {
		t.Fatalf("%d, %d bytes, %v", status, len(body), err)
	}
	if len(env) < 10 {
		t.Fatalf("the reader's environment: %v", env)
	}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		for _, static := range v1alpha1.StaticCredentialEnv() {
			if name == static {
				t.Errorf("the reader has a static credential: %s", name)
			}
		}
		if strings.Contains(value, "account-b-root") {
			t.Errorf("%s holds Account B's root", name)
		}
	}
	// CloudTrail's view: the session is named for the Pod.
	if !strings.HasSuffix(report.Identity.ARN, "/app") {
		t.Errorf("the session is not named for the Pod: %s", report.Identity.ARN)
	}
}

// TestOneExactAndOneWildcardSubject of one policy: both assume the role, a third does not.
func TestOneExactAndOneWildcardSubject(t *testing.T) {
	b, err := accountB()
	must(t, err)
	ctx := testContext(t)
	namespace := newNamespace(t, cluster, nil, "api-sa", "batch-7", "intruder")
	p, err := cluster.ApplyPolicy(ctx, "subjects", b.Document("subjects-data", "subjects-role", subject(namespace, "api-sa")+", "+subject("test-*", "batch-?")))
	must(t, err)
	must(t, b.CreateBucket(ctx, p.Bucket, map[string]string{"config.json": "content"}))
	must(t, b.CreateRole(ctx, p))
	a := &access{b: b, policy: p, namespace: namespace}
	for _, name := range []string{"api-sa", "batch-7"} {
		report, err := a.reader(t, a.pod(t, name, account(name)), nil).Report(ctx)
		must(t, err)
		if !report.Ready {
			t.Errorf("%s: %s", name, report.Line())
		}
	}
	if said, err := apply(t, cluster, pod(namespace, "intruder", account("intruder"), label("bucket-access.io/policy", "subjects"))); err == nil {
		t.Errorf("the webhook lets the third in: %s", said)
	}
	// And without the webhook: its token, at the real STS.
	intruder := created(t, cluster, pod(namespace, "intruder", account("intruder")))
	token, err := cluster.Token(ctx, intruder, "sts.amazonaws.com", 600)
	must(t, err)
	refused := a.problem(t, a.reader(t, a.pod(t, "impostor"), func(start *lab.PodStart) { start.Token = &token }))
	if refused.Cause != diagnosis.WrongSubject || refused.Answer == nil || refused.Answer.Service != "STS" || !strings.Contains(refused.Detail, ":intruder") {
		t.Errorf("%+v", refused)
	}
}

// problem is what the reader says where an object can't be had.
type problem struct {
	Status             int
	Title, Detail, Fix string
	Cause              diagnosis.Cause
	Answer             *diagnosis.Answer
}

func (a *access) problem(t *testing.T, r *lab.ReaderProcess) problem {
	t.Helper()
	_, err := r.Report(testContext(t)) // it serves
	must(t, err)
	var p problem
	status, err := r.GetJSON(testContext(t), "/s3/config.json", &p)
	if err != nil || status < 400 || p.Status != status {
		t.Fatalf("the object is not refused: HTTP %d, %v", status, err)
	}
	return p
}
