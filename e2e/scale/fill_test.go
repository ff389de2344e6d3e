package scale

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

const (
	labelPolicy = "bucket-access.io/policy"
	perObject   = 100 // policies in a ConfigMap, which may have a MiB
	hotPolicy   = "policy-0"
	workers     = 16
)

// size is how much there is of everything.
type size struct{ namespaces, accounts, labelled, hot, pods, policies int }

func sizeOf(scale float64) size {
	part := func(n int) int { return max(int(float64(n)*scale), 10) }
	return size{namespaces: part(10_000), accounts: part(100_000), labelled: part(20_000), hot: part(1_000), pods: part(50_000), policies: part(10_000)}
}

// filler creates many objects at once.
type filler struct {
	*lab.Lab

	clients *kubernetes.Clientset
	size    size
}

func newFiller(t *testing.T, l *lab.Lab, s size) *filler {
	t.Helper()
	config := rest.CopyConfig(l.Config)
	config.QPS, config.ContentType = -1, runtime.ContentTypeProtobuf
	clients, err := kubernetes.NewForConfig(config)
	must(t, err)
	return &filler{Lab: l, clients: clients, size: s}
}

// each calls do for 0 to n-1, several at once, and tells how far it is.
func (f *filler) each(t *testing.T, what string, n int, do func(ctx context.Context, i int) error) {
	t.Helper()
	start, said := time.Now(), time.Now()
	var next, failed atomic.Int64
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() > 0 {
					return
				}
				if err := do(t.Context(), i); err != nil {
					failed.Add(1)
					t.Errorf("%s %d: %v", what, i, err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for {
		select {
		case <-done:
			if failed.Load() > 0 {
				t.FailNow()
			}
			t.Logf("%d %s in %s", n, what, time.Since(start).Round(time.Second))
			return
		case <-time.After(time.Second):
			if time.Since(said) > 20*time.Second {
				said = time.Now()
				fmt.Printf("scale: %d of %d %s\n", min(int(next.Load()), n), n, what)
			}
		}
	}
}

func namespaceName(i int) string { return fmt.Sprintf("team-%d", i) }
func accountName(i int) string   { return fmt.Sprintf("application-%d", i) }

// policyOf is the policy that a ServiceAccount's label names: the first ones share one.
func (f *filler) policyOf(account int) string {
	if account < f.size.hot {
		return hotPolicy
	}
	return fmt.Sprintf("policy-%d", 1+account%max(f.size.policies-1, 1))
}

func (f *filler) placeOf(account int) (namespace, name string) {
	return namespaceName(account % f.size.namespaces), accountName(account / f.size.namespaces)
}

func document(i int, expiration int) string {
	return fmt.Sprintf("apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: bucket-of-policy-%d\nregion: eu-west-1\n"+
		"roleARN: arn:aws:iam::222222222222:role/role-of-policy-%d\ntokenExpirationSeconds: %d\nsubjects:\n- {namespace: \"team-*\", serviceAccount: \"application-*\"}\n", i, i, expiration)
}

func (f *filler) policyObject(i int, expiration int) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: fmt.Sprintf("policies-%d", i), Labels: map[string]string{"bucket-access.io/policies": "true"}}, Data: map[string]string{}}
	for n := i * perObject; n < min((i+1)*perObject, f.size.policies); n++ {
		c.Data[fmt.Sprintf("policy-%d", n)] = document(n, expiration)
	}
	return c
}

func (f *filler) fill(t *testing.T) {
	t.Helper()
	create := metav1.CreateOptions{}
	f.each(t, "ConfigMaps of 100 policies", (f.size.policies+perObject-1)/perObject, func(ctx context.Context, i int) error {
		_, err := f.clients.CoreV1().ConfigMaps(lab.Namespace).Create(ctx, f.policyObject(i, 3600), create)
		return err
	})
	f.each(t, "Namespaces", f.size.namespaces, func(ctx context.Context, i int) error {
		_, err := f.clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(i), Labels: map[string]string{"team": namespaceName(i)}}}, create)
		return err
	})
	// Annotated by the webhook, as they are created.
	f.each(t, "ServiceAccounts", f.size.accounts, func(ctx context.Context, i int) error {
		namespace, name := f.placeOf(i)
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/name": name}}}
		if i < f.size.labelled {
			sa.Labels[labelPolicy] = f.policyOf(i)
		}
		_, err := f.clients.CoreV1().ServiceAccounts(namespace).Create(ctx, sa, create)
		return err
	})
}

// fillPods copies Pods that the webhook has injected, while it is away.
func (f *filler) fillPods(t *testing.T, injected *corev1.Pod) {
	t.Helper()
	f.each(t, "injected Pods", f.size.pods, func(ctx context.Context, i int) error {
		namespace, account := f.placeOf(i % f.size.labelled)
		p := injected.DeepCopy()
		p.ObjectMeta = metav1.ObjectMeta{Name: fmt.Sprintf("%s-7d9c8b5f4-%05d", account, i), Labels: injected.Labels, Annotations: injected.Annotations}
		p.Spec.ServiceAccountName = account
		_, err := f.clients.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
		return err
	})
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
