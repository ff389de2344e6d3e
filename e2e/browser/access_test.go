package browser

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// names of a set-up, which people see on the page.
type names struct{ namespace, policy, bucket, role string }

// access is one policy with its bucket, its role and a Namespace whose ServiceAccount
// api-sa it lists: set up as users do, with the documents that are generated.
type access struct {
	policy    *policy.Policy
	namespace string
}

var accesses atomic.Int32

// newAccess makes a set-up with the objects, of any name.
func newAccess(t *testing.T, objects map[string]string) *access {
	t.Helper()
	name := fmt.Sprintf("access-%d", accesses.Add(1))
	return newNamedAccess(t, names{namespace: name, policy: name, bucket: name + "-data", role: name + "-role"}, objects)
}

func newNamedAccess(t *testing.T, n names, objects map[string]string) *access {
	t.Helper()
	ctx := testContext(t)
	must(t, cluster.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.namespace}}))
	for _, account := range []string{"default", "api-sa", "other"} {
		must(t, cluster.Client.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: n.namespace, Name: account}}))
	}
	subject := fmt.Sprintf("{namespace: %q, serviceAccount: api-sa}", n.namespace)
	p, err := cluster.ApplyPolicy(ctx, n.policy, accountB.Document(n.bucket, n.role, subject))
	must(t, err)
	must(t, accountB.CreateBucket(ctx, n.bucket, objects))
	must(t, accountB.CreateRole(ctx, p))
	return &access{policy: p, namespace: n.namespace}
}

// pod creates a Pod; with a label it goes through the webhook.
func (a *access) pod(t *testing.T, name, account string, labels map[string]string) *corev1.Pod {
	t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{ServiceAccountName: account, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:v1"}}},
	}
	must(t, cluster.Client.Create(testContext(t), p))
	return p
}

// starting keeps the lab's list of processes in order.
var starting sync.Mutex

// reader starts the sidecar that the webhook has put into a Pod with the policy's label.
func (a *access) reader(t *testing.T, edit func(*lab.PodStart)) *lab.ReaderProcess {
	t.Helper()
	p := a.pod(t, "app", "api-sa", map[string]string{"bucket-access.io/policy": a.policy.Name})
	starting.Lock()
	r, err := cluster.StartReader(testContext(t), p, edit, "--probe-interval=1s", "--probe-timeout=5s")
	starting.Unlock()
	must(t, err)
	t.Cleanup(func() {
		r.Stop()
		if text, err := os.ReadFile(r.Log); err == nil && t.Failed() {
			t.Logf("the reader's log:\n%s", text)
		}
	})
	_, err = r.Report(testContext(t)) // it serves
	must(t, err)
	return r
}
