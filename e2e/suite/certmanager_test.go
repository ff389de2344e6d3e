package suite

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// Names that the chart gives: Certificates, and the Secrets they are issued into.
const (
	leafCertificate = "bucket-access-webhook"
	rootCertificate = "bucket-access-webhook-ca"
)

var (
	tlsSecret  = client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-tls"}
	rootSecret = client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-root"}
)

// certManagerLab is a lab with cert-manager's own controllers.
func certManagerLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Start(testContext(t), lab.Options{LogDir: os.Getenv("LOG_DIR"), Manifests: lab.None})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	_, err = l.StartCertManager(testContext(t))
	must(t, err)
	return l
}

// installCertManagerMode installs the chart and starts two replicas, whose kubelets take a
// while for a change of the Secret.
func installCertManagerMode(t *testing.T, l *lab.Lab, major int, kubelet time.Duration, values ...string) {
	t.Helper()
	args := []string{"install", "release", chart, "-n", lab.Namespace, "--create-namespace", "--set", "certificates.mode=certManager", "--set-json", faultsPolicy}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	_, err := l.Helm(testContext(t), major, args...)
	must(t, err)
	startIssued(t, l, kubelet, "one", "two")
}

// startIssued starts replicas of what was installed in certManager mode.
func startIssued(t *testing.T, l *lab.Lab, kubelet time.Duration, names ...string) {
	t.Helper()
	must(t, l.WebhookAccess(t.Context()))
	wantIssued(t, l, leafCertificate, -1) // a Secret that was there is taken as it is, at revision 0
	startMounted(t, l, kubelet, names...)
}

// startMounted starts replicas, each with the Secret as a kubelet of its own mounts it.
func startMounted(t *testing.T, l *lab.Lab, kubelet time.Duration, names ...string) {
	t.Helper()
	for _, name := range names {
		directory := filepath.Join(l.Dir, "mount-"+name)
		must(t, l.MountSecret(testContext(t), tlsSecret.Namespace, tlsSecret.Name, directory, kubelet))
		_, err := l.StartReplica(testContext(t), name, "--cert-dir="+directory)
		must(t, err)
	}
}

// certManagerObject is an object of cert-manager's API. Its Go types are left to
// cert-manager: they would bring dependencies along.
func certManagerObject(kind, namespace, name string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: kind})
	object.SetNamespace(namespace)
	object.SetName(name)
	return object
}

// issuance is a Certificate's revision, and whether it is Ready and not being issued.
func issuance(t *testing.T, l *lab.Lab, name string) (revision int64, ready bool) {
	t.Helper()
	certificate := certManagerObject("Certificate", lab.Namespace, name)
	must(t, l.Client.Get(t.Context(), client.ObjectKeyFromObject(certificate), certificate))
	revision, _, err := unstructured.NestedInt64(certificate.Object, "status", "revision")
	must(t, err)
	conditions, _, err := unstructured.NestedSlice(certificate.Object, "status", "conditions")
	must(t, err)
	has := func(kind string) bool {
		return slices.ContainsFunc(conditions, func(c any) bool {
			condition, _ := c.(map[string]any)
			return condition["type"] == kind && condition["status"] == "True"
		})
	}
	return revision, has("Ready") && !has("Issuing")
}

// wantIssued waits until a revision after the former one is Ready.
func wantIssued(t *testing.T, l *lab.Lab, name string, former int64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		revision, ready := issuance(t, l, name)
		if ready && revision > former {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not issued in 30 s: the Certificate %s is at revision %d, ready %t", name, revision, ready)
		}
	}
}

// renew has a Certificate issued anew, as cmctl renew does, and waits for it.
func renew(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	former, _ := issuance(t, l, name)
	eventually(t, "the condition Issuing is set", func() bool {
		certificate := certManagerObject("Certificate", lab.Namespace, name)
		must(t, l.Client.Get(t.Context(), client.ObjectKeyFromObject(certificate), certificate))
		conditions, _, err := unstructured.NestedSlice(certificate.Object, "status", "conditions")
		must(t, err)
		conditions = append(conditions, map[string]any{
			"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "as by cmctl renew",
			"lastTransitionTime": metav1.Now().UTC().Format(time.RFC3339), "observedGeneration": certificate.GetGeneration(),
		})
		must(t, unstructured.SetNestedSlice(certificate.Object, conditions, "status", "conditions"))
		return l.Client.Status().Update(t.Context(), certificate) == nil
	})
	wantIssued(t, l, name, former)
}

// wantServed waits until every replica serves what the Secret holds, and every entry of
// both configurations trusts it.
func wantServed(t *testing.T, l *lab.Lab) *x509.Certificate {
	t.Helper()
	what := ""
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		leaf := l.Certificate(t.Context(), tlsSecret)
		if what = servedBy(t.Context(), l, leaf); what == "" {
			return leaf
		}
	}
	t.Fatalf("not in 30 s: %s", what)
	return nil
}

// servedBy says by which replica or entry the leaf is not served or trusted, "" when by none.
func servedBy(ctx context.Context, l *lab.Lab, leaf *x509.Certificate) string {
	bundles, err := l.CABundles(ctx)
	if err != nil || len(bundles) == 0 || leaf == nil {
		return fmt.Sprintf("%d caBundles, %v, leaf there: %t", len(bundles), err, leaf != nil)
	}
	for _, r := range l.Replicas() {
		for i, bundle := range bundles {
			served, err := r.Greet(context.Background(), bundle)
			if err != nil {
				return fmt.Sprintf("entry %d and replica %s: %v", i, r.Name, err)
			}
			if !served.Equal(leaf) {
				return r.Name + " serves another certificate than the Secret's"
			}
		}
	}
	return ""
}

// issuerOf is the CA that cert-manager names beside the leaf.
func issuerOf(t *testing.T, l *lab.Lab) []byte {
	t.Helper()
	var secret corev1.Secret
	must(t, l.Client.Get(t.Context(), tlsSecret, &secret))
	return secret.Data["ca.crt"]
}

// rootPEM is the root as its Secret has it.
func rootPEM(t *testing.T, l *lab.Lab) []byte {
	t.Helper()
	var secret corev1.Secret
	must(t, l.Client.Get(t.Context(), rootSecret, &secret))
	return secret.Data["tls.crt"]
}

// TestHelmWithCertManager installs the chart in certManager mode, upgrades it, uninstalls
// it and installs it again over the Secrets that cert-manager leaves.
func TestHelmWithCertManager(t *testing.T) {
	for _, major := range []int{4, 3} {
		t.Run(fmt.Sprintf("Helm %d", major), func(t *testing.T) {
			l := certManagerLab(t)
			before := ours(t, l)
			installCertManagerMode(t, l, major, 0)
			plain, labelled := askingNamespaces(t, l)
			wantServed(t, l)
			wantInjected(t, l, plain, labelled)

			// What Helm applies and what cainjector writes are in the same list items.
			_, err := l.Helm(testContext(t), major, "upgrade", "release", fixture(t, l, "mutating-webhooks.yaml", oneMore), "-n", lab.Namespace, "--reuse-values")
			must(t, err)
			eventually(t, "the entry that is new has a caBundle", func() bool {
				names, bare := entries(t, l)
				return slices.Contains(names, "extra") && len(bare) == 0
			})
			wantServed(t, l)
			wantInjected(t, l, plain, labelled)

			for _, r := range l.Replicas() {
				must(t, r.Terminate())
			}
			_, err = l.Helm(testContext(t), major, "uninstall", "release", "-n", lab.Namespace)
			must(t, err)
			stays := []string{"secret/" + tlsSecret.Name, "secret/" + rootSecret.Name} // cert-manager keeps what it has issued
			wantUninstalled(t, l, append(before, stays...), plain)

			root := rootPEM(t, l)
			installCertManagerMode(t, l, major, 0)
			wantServed(t, l)
			wantInjected(t, l, plain, labelled)
			if !bytes.Equal(rootPEM(t, l), root) {
				t.Error("there is another root, though the former one was there")
			}
		})
	}
}

// TestHelmWithAnIssuerOfTheUsersOwn: certificates.certManager.issuerRef names an issuer
// that exists, and its CA comes into the configurations.
func TestHelmWithAnIssuerOfTheUsersOwn(t *testing.T) {
	l := certManagerLab(t)
	ca := authorityOf(t, time.Now().Add(-time.Minute), 365*24*time.Hour)
	const namespace = "cert-manager" // where that of a ClusterIssuer is
	must(t, l.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	must(t, l.Client.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "company-ca"}, Data: ca}))
	issuer := certManagerObject("ClusterIssuer", "", "company")
	must(t, unstructured.SetNestedField(issuer.Object, "company-ca", "spec", "ca", "secretName"))
	must(t, l.Client.Create(testContext(t), issuer))
	installCertManagerMode(t, l, 4, 0, "certificates.certManager.issuerRef.kind=ClusterIssuer", "certificates.certManager.issuerRef.name=company")
	plain, labelled := askingNamespaces(t, l)
	wantServed(t, l)
	wantInjected(t, l, plain, labelled)
	if got := issuerOf(t, l); !bytes.Equal(got, ca["tls.crt"]) {
		t.Errorf("issued by another CA:\n%s", got)
	}
	// The issuer makes a root of the release's own superfluous.
	err := l.Client.Get(t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: rootCertificate}, certManagerObject("Certificate", "", ""))
	if client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("a root of the release's own: %v", err)
	}
}

// TestManifestsWithCertManager applies manifests/cert-manager as they are.
func TestManifestsWithCertManager(t *testing.T) {
	l := certManagerLab(t)
	needsMarks(t, l) // these manifests are for Kubernetes 1.36 and newer
	if _, said, err := l.Kubectl(testContext(t), "", "apply", "-k", "manifests/cert-manager"); err != nil {
		t.Fatal(said)
	}
	must(t, l.Client.Create(t.Context(), policyConfigMap("faults", policyDocument(subject("*", "*")))))
	startIssued(t, l, 0, "one", "two")
	plain, labelled := askingNamespaces(t, l)
	wantServed(t, l)
	wantInjected(t, l, plain, labelled)
}

// TestChangingToCertManagerLosesNothing goes from managed mode to certManager mode and back
// while Pods are created: the CA of the one is trusted until the replicas are the other's.
func TestChangingToCertManagerLosesNothing(t *testing.T) {
	for _, major := range []int{4, 3} {
		t.Run(fmt.Sprintf("Helm %d", major), func(t *testing.T) {
			l := certManagerLab(t)
			helm := func(args ...string) {
				t.Helper()
				_, err := l.Helm(testContext(t), major, append(args, "-n", lab.Namespace)...)
				must(t, err)
			}
			helm("install", "release", chart, "--create-namespace", "--set-json", faultsPolicy)
			must(t, l.WebhookAccess(t.Context()))
			plain, labelled := askingNamespaces(t, l)
			for _, name := range []string{"managed-one", "managed-two"} {
				_, err := l.StartReplica(testContext(t), name, "--certificate-settle=2s")
				must(t, err)
			}
			wantInjected(t, l, plain, labelled)
			c := load{lab: l, plain: plain, labelled: labelled, lost: t.Errorf}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var group sync.WaitGroup
			defer group.Wait()
			defer stop()
			group.Go(func() { c.createPods(ctx) })
			former := l.Replicas()
			helm("upgrade", "release", chart, "--reuse-values", "--set", "certificates.mode=certManager")
			startIssued(t, l, 0, "issued-one", "issued-two")
			for _, r := range former {
				must(t, r.Terminate())
			}
			wantServed(t, l)
			former = l.Replicas()
			helm("upgrade", "release", chart, "--reuse-values", "--set", "certificates.mode=managed")
			for _, name := range []string{"managed-three", "managed-four"} {
				_, err := l.StartReplica(testContext(t), name, "--certificate-settle=2s")
				must(t, err)
			}
			for _, r := range former {
				must(t, r.Terminate())
			}
			wantHealthy(t, l, plain)
			stop()
			group.Wait()
			t.Logf("%d Pods", c.pods.Load())
			if c.pods.Load() < 500 {
				t.Fatal("too few to prove anything")
			}
		})
	}
}

// underLoad does something while Pods are created and connections opened without pause.
func underLoad(t *testing.T, c *load, do func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() { c.createPods(ctx) })
	group.Go(func() { c.connect(ctx) })
	eventually(t, "the load is on", func() bool { return c.pods.Load() > 0 && c.connections.Load() > 0 })
	do()
}

// TestRenewalByCertManagerLosesNothing renews the leaf, then the root, then the leaf again,
// which is then issued by the new root. The root keeps its key (rotationPolicy Never), so
// the old root and the new one each verify every leaf.
func TestRenewalByCertManagerLosesNothing(t *testing.T) {
	l := certManagerLab(t)
	installCertManagerMode(t, l, 4, 0)
	plain, labelled := askingNamespaces(t, l)
	wantInjected(t, l, plain, labelled)
	c := load{lab: l, plain: plain, labelled: labelled, ca: rootSecret, lost: t.Errorf}
	underLoad(t, &c, func() {
		for round := range 3 {
			for range 3 {
				renew(t, l, leafCertificate)
				wantServed(t, l)
			}
			if !bytes.Equal(issuerOf(t, l), rootPEM(t, l)) {
				t.Errorf("round %d: the leaf is issued by an older root", round)
			}
			former := rootPEM(t, l)
			renew(t, l, rootCertificate)
			wantServed(t, l)
			if bytes.Equal(rootPEM(t, l), former) {
				t.Errorf("round %d: the root is the same", round)
			}
			time.Sleep(2 * time.Second) // connections to a leaf that an older root issued
		}
		renew(t, l, leafCertificate)
		wantServed(t, l)
	})
	t.Logf("%d Pods and %d connections over %d roots and %d leaves", c.pods.Load(), c.connections.Load(), c.authorities.count(), c.leaves.count())
	if c.authorities.count() < 4 || c.leaves.count() < 11 || c.pods.Load() < 500 || c.connections.Load() < 300 {
		t.Fatal("too few to prove anything")
	}
}

// replaceRoot takes the root's key away, so that cert-manager makes a root with another
// one. The leaf is still the former root's.
func replaceRoot(t *testing.T, l *lab.Lab) {
	t.Helper()
	former, _ := issuance(t, l, rootCertificate)
	must(t, l.Client.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: rootSecret.Namespace, Name: rootSecret.Name}}))
	wantIssued(t, l, rootCertificate, former)
	if issuedByRoot(t, l) {
		t.Fatal("the root has its former key")
	}
}

// issuedByRoot says whether the leaf is of the root that is there now.
func issuedByRoot(t *testing.T, l *lab.Lab) bool {
	t.Helper()
	leaf, root := l.Certificate(t.Context(), tlsSecret), l.Certificate(t.Context(), rootSecret)
	return leaf != nil && root != nil && leaf.CheckSignatureFrom(root) == nil
}

// TestANewKeyOfTheRootLosesNothing: the new root comes into the caBundles together with the
// first leaf that it issues, and the former one stays there. What makes it safe is that a
// kubelet takes longer to bring the leaf to the replicas than API servers take to hear of
// the caBundles: here three seconds, against the one that a client is behind.
func TestANewKeyOfTheRootLosesNothing(t *testing.T) {
	l := certManagerLab(t)
	installCertManagerMode(t, l, 4, 3*time.Second)
	plain, labelled := askingNamespaces(t, l)
	wantInjected(t, l, plain, labelled)
	c := load{lab: l, plain: plain, labelled: labelled, ca: rootSecret, lost: t.Errorf}
	underLoad(t, &c, func() {
		for round := range 3 {
			replaceRoot(t, l)
			wantServed(t, l)            // as before
			time.Sleep(2 * time.Second) // connections to a leaf of the former root
			renew(t, l, leafCertificate)
			wantServed(t, l)
			if !issuedByRoot(t, l) {
				t.Errorf("round %d: the leaf is not of the new root", round)
			}
		}
	})
	t.Logf("%d Pods and %d connections over %d roots and %d leaves", c.pods.Load(), c.connections.Load(), c.authorities.count(), c.leaves.count())
	if c.authorities.count() < 4 || c.leaves.count() < 4 || c.pods.Load() < 500 || c.connections.Load() < 300 {
		t.Fatal("too few to prove anything")
	}

	// Configurations that are made anew trust what is served, also before the leaf is of the
	// new root. Once it is, the former root goes with the caBundles.
	replaceRoot(t, l)
	wantRefilled(t, l)
	renew(t, l, leafCertificate)
	wantServed(t, l)
	wantRefilled(t, l)
}

// wantRefilled takes the caBundles away: they come back with the leaf's CA alone.
func wantRefilled(t *testing.T, l *lab.Lab) {
	t.Helper()
	setBundles(t, l, nil)
	wantServed(t, l)
	bundles, err := l.CABundles(t.Context())
	must(t, err)
	if !bytes.Equal(bundles[0], issuerOf(t, l)) {
		t.Errorf("trusted is another than the CA of what is served:\n%s", bundles[0])
	}
}
