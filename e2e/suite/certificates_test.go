package suite

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// certificateLab has replicas whose certificates live for seconds.
func certificateLab(t *testing.T, flags ...string) (l *lab.Lab, plain, labelled string) {
	t.Helper()
	l, plain, labelled = faultLab(t)
	for _, name := range []string{"one", "two"} {
		_, err := l.StartReplica(testContext(t), name, flags...)
		must(t, err)
	}
	return l, plain, labelled
}

var caSecret = client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-ca"}

// theCA is the CA that the Secret holds now, nil while it holds none with its key.
func theCA(ctx context.Context, l *lab.Lab) *x509.Certificate { return l.Certificate(ctx, caSecret) }

// healthy says what is wrong with the certificates, "" when nothing is: every entry
// trusts what every replica serves, by the CA of the Secret, and Pods are injected.
func healthy(ctx context.Context, l *lab.Lab, plain string) string {
	ca := theCA(ctx, l)
	if ca == nil {
		return "the Secret holds no CA"
	}
	if now := time.Now(); now.Before(ca.NotBefore.Add(-time.Minute)) || now.After(ca.NotAfter) {
		return "the CA is not valid now"
	}
	bundles, err := l.CABundles(ctx)
	if err != nil {
		return err.Error()
	}
	for _, r := range l.Replicas() {
		for i, bundle := range bundles {
			served, err := r.Greet(context.Background(), bundle)
			if err != nil {
				return fmt.Sprintf("entry %d and replica %s: %v", i, r.Name, err)
			}
			if err := served.CheckSignatureFrom(ca); err != nil {
				return "a certificate of another CA is served by " + r.Name
			}
		}
	}
	p := pod(plain, "healthy", label("bucket-access.io/policy", "faults"))
	if err := l.Client.Create(ctx, p, client.DryRunAll); err != nil {
		return err.Error()
	}
	return lacksInjection(p, "faults")
}

func wantHealthy(t *testing.T, l *lab.Lab, plain string) {
	t.Helper()
	start, what := time.Now(), ""
	for time.Since(start) < 40*time.Second {
		if what = healthy(t.Context(), l, plain); what == "" {
			t.Logf("mended %.1f s later", time.Since(start).Seconds())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("not mended in 40 s: %s", what)
}

// seen counts different certificates.
type seen struct {
	mutex sync.Mutex
	all   map[[sha256.Size]byte]bool
}

func (s *seen) add(c *x509.Certificate) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]bool{}
	}
	s.all[sha256.Sum256(c.Raw)] = true
}

func (s *seen) count() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.all)
}

// load is what certificates are replaced under, and what it counts.
type load struct {
	lab             *lab.Lab
	plain, labelled string
	ca              client.ObjectKey                 // of the Secret that the CA is in
	lost            func(format string, args ...any) // told of every request that is refused or not injected

	pods, connections   atomic.Int64
	leaves, authorities seen
}

// createPods creates Pods in bursts until ctx ends: idle connections above the API
// server's limit are closed, so that the next burst opens new ones.
func (c *load) createPods(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		var burst sync.WaitGroup
		for worker := range 40 {
			for way, p := range asking(c.plain, c.labelled, fmt.Sprintf("b%d-%d", i, worker)) {
				burst.Go(func() {
					if err := c.lab.Client.Create(context.WithoutCancel(ctx), p, client.DryRunAll); err != nil {
						c.lost("by %s: %v", way, err)
					} else if lacks := lacksInjection(p, "faults"); lacks != "" {
						c.lost("by %s: lacks %s", way, lacks)
					}
					c.pods.Add(1)
				})
			}
		}
		burst.Wait()
		time.Sleep(400 * time.Millisecond)
	}
}

// connect connects anew to every replica until ctx ends, as a client that knows the
// bundles of a second ago only.
func (c *load) connect(ctx context.Context) {
	for ctx.Err() == nil {
		bundles, err := c.lab.CABundles(context.WithoutCancel(ctx))
		if err != nil {
			c.lost("reading the caBundles: %v", err)
			return
		}
		if ca := c.lab.Certificate(context.WithoutCancel(ctx), c.ca); ca != nil {
			c.authorities.add(ca)
		}
		for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
			for _, r := range c.lab.Replicas() {
				served, err := r.Greet(context.Background(), bundles[int(c.connections.Add(1))%len(bundles)])
				if err != nil {
					c.lost("a new connection to %s: %v", r.Name, err)
					return
				}
				c.leaves.add(served)
			}
		}
	}
}

// TestReplacingCAAndLeafLosesNothing: while CAs are replaced every 24 s and leaves every
// 8 s, bursts of Pods make the API server open new connections all the time, and a
// client that knows the bundles of a second ago only, as an API server whose watch is
// behind, connects anew without pause.
func TestReplacingCAAndLeafLosesNothing(t *testing.T) {
	l, plain, labelled := certificateLab(t, "--ca-duration=36s", "--certificate-duration=12s", "--certificate-settle=2s")
	ctx, stop := context.WithTimeout(t.Context(), 80*time.Second)
	defer stop()
	c := load{lab: l, plain: plain, labelled: labelled, ca: caSecret, lost: t.Errorf}
	var group sync.WaitGroup
	group.Go(func() { c.createPods(ctx) })
	group.Go(func() { c.connect(ctx) })
	group.Wait()
	t.Logf("%d Pods and %d connections over %d CAs and %d leaves", c.pods.Load(), c.connections.Load(), c.authorities.count(), c.leaves.count())
	if c.authorities.count() < 3 || c.leaves.count() < 10 || c.pods.Load() < 1000 || c.connections.Load() < 1000 {
		t.Fatal("too few to prove anything")
	}
	// What was replaced goes: a CA lives for 36 s, so the bundles hold a few only.
	bundles, err := l.CABundles(t.Context())
	must(t, err)
	if n := strings.Count(string(bundles[0]), "BEGIN CERTIFICATE"); n > 3 {
		t.Errorf("a caBundle holds %d certificates", n)
	}
}

// authorityOf makes a CA as a Secret's data, valid from start for a lifetime.
func authorityOf(t *testing.T, start time.Time, lifetime time.Duration) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(start.Unix()), Subject: pkix.Name{CommonName: "other"}, NotBefore: start, NotAfter: start.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return map[string][]byte{"tls.crt": certificate, "ca.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
}

// servingPair is a CA and a serving certificate of it, as a Secret's data.
func servingPair(t *testing.T) map[string][]byte {
	t.Helper()
	ca := authorityOf(t, time.Now().Add(-time.Minute), 24*time.Hour)
	pair, err := tls.X509KeyPair(ca["tls.crt"], ca["tls.key"])
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: pair.Leaf.NotBefore, NotAfter: pair.Leaf.NotAfter,
		DNSNames: []string{lab.Name + "." + lab.Namespace + ".svc"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, pair.Leaf, &key.PublicKey, pair.PrivateKey)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return map[string][]byte{
		"ca.crt": ca["tls.crt"], "tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// setSecret replaces what the Secret holds.
func setSecret(t *testing.T, l *lab.Lab, edit func(data map[string][]byte) map[string][]byte) {
	t.Helper()
	eventually(t, "the Secret is changed", func() bool {
		var secret corev1.Secret
		if l.Client.Get(t.Context(), caSecret, &secret) != nil {
			return false
		}
		secret.Data = edit(secret.Data)
		return l.Client.Update(t.Context(), &secret) == nil
	})
}

// setBundles replaces every caBundle of the mutating configuration.
func setBundles(t *testing.T, l *lab.Lab, bundle []byte) {
	t.Helper()
	eventually(t, "the caBundles are changed", func() bool {
		var mutating registrationv1.MutatingWebhookConfiguration
		if l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, &mutating) != nil {
			return false
		}
		for i := range mutating.Webhooks {
			mutating.Webhooks[i].ClientConfig.CABundle = bundle
		}
		return l.Client.Update(t.Context(), &mutating) == nil
	})
}

// TestDamageOfTheCAIsMendedWithoutAPerson does to Secret and bundles what people,
// restores from backups and wrong clocks do to them. The replicas go on serving the
// whole time: what the Secret loses stays trusted for as long as it is served.
func TestDamageOfTheCAIsMendedWithoutAPerson(t *testing.T) {
	l, plain, _ := certificateLab(t, "--certificate-settle=1s")
	wantHealthy(t, l, plain)
	for name, damage := range map[string]func(*testing.T){
		"the Secret is deleted": func(t *testing.T) {
			t.Helper()
			secret := &corev1.Secret{}
			secret.Namespace, secret.Name = caSecret.Namespace, caSecret.Name
			must(t, l.Client.Delete(t.Context(), secret))
		},
		"the Secret is emptied": func(t *testing.T) {
			t.Helper()
			setSecret(t, l, func(map[string][]byte) map[string][]byte { return nil })
		},
		"the Secret holds garbage": func(t *testing.T) {
			t.Helper()
			setSecret(t, l, func(map[string][]byte) map[string][]byte {
				return map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("y"), "ca.crt": []byte("x")}
			})
		},
		"the key is another's": func(t *testing.T) {
			t.Helper()
			setSecret(t, l, func(data map[string][]byte) map[string][]byte {
				data["tls.key"] = authorityOf(t, time.Now(), time.Hour)["tls.key"]
				return data
			})
		},
		"the CA has expired": func(t *testing.T) {
			t.Helper()
			setSecret(t, l, func(map[string][]byte) map[string][]byte {
				return authorityOf(t, time.Now().Add(-48*time.Hour), 24*time.Hour)
			})
		},
		"the CA is of a clock that was a year ahead": func(t *testing.T) {
			t.Helper()
			setSecret(t, l, func(map[string][]byte) map[string][]byte {
				return authorityOf(t, time.Now().Add(365*24*time.Hour), 365*24*time.Hour)
			})
		},
		"a backup of an older CA is restored": func(t *testing.T) {
			t.Helper()
			setSecret(t, l, func(map[string][]byte) map[string][]byte {
				return authorityOf(t, time.Now().Add(-24*time.Hour), 365*24*time.Hour)
			})
		},
		"the caBundles are taken away": func(t *testing.T) { t.Helper(); setBundles(t, l, nil) },
		"the caBundles trust another CA": func(t *testing.T) {
			t.Helper()
			setBundles(t, l, authorityOf(t, time.Now().Add(-400*24*time.Hour), 24*time.Hour)["tls.crt"])
		},
	} {
		t.Run(name, func(t *testing.T) {
			damage(t)
			wantHealthy(t, l, plain)
		})
	}
}

// TestACAThatCanNotBeWrittenIsNotServed takes the right to write caBundles away and then
// the CA: what is served stays what API servers trust, until the right is back.
func TestACAThatCanNotBeWrittenIsNotServed(t *testing.T) {
	l, plain, _ := certificateLab(t, "--certificate-settle=1s")
	wantHealthy(t, l, plain)
	old := theCA(t.Context(), l)
	setVerbs := func(verbs ...string) {
		t.Helper()
		var role rbacv1.ClusterRole
		must(t, l.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, &role))
		for i := range role.Rules {
			if slices.Contains(role.Rules[i].APIGroups, "admissionregistration.k8s.io") {
				role.Rules[i].Verbs = verbs
			}
		}
		must(t, l.Client.Update(t.Context(), &role))
	}
	setVerbs("get", "list", "watch")
	setSecret(t, l, func(map[string][]byte) map[string][]byte { return nil })
	eventually(t, "there is a new CA", func() bool { ca := theCA(t.Context(), l); return ca != nil && !ca.Equal(old) })
	for until := time.Now().Add(6 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		bundles, err := l.CABundles(t.Context())
		must(t, err)
		for _, r := range l.Replicas() {
			if _, err := r.Greet(context.Background(), bundles[0]); err != nil {
				t.Fatalf("%s serves what no API server trusts: %v", r.Name, err)
			}
		}
	}
	setVerbs("get", "list", "watch", "patch")
	wantHealthy(t, l, plain)
}

// TestACAThatExpiredWhileAllReplicasWereDown starts replicas over what is left of an
// installation that nobody ran for a year.
func TestACAThatExpiredWhileAllReplicasWereDown(t *testing.T) {
	l, plain, _ := faultLab(t)
	expired := authorityOf(t, time.Now().Add(-400*24*time.Hour), 365*24*time.Hour)
	setSecret(t, l, func(map[string][]byte) map[string][]byte { return expired })
	setBundles(t, l, expired["tls.crt"])
	for _, name := range []string{"one", "two"} {
		_, err := l.StartReplica(testContext(t), name)
		must(t, err)
	}
	wantHealthy(t, l, plain)
	bundles, err := l.CABundles(t.Context())
	must(t, err)
	if strings.Contains(string(bundles[0]), string(expired["tls.crt"])) {
		t.Error("the expired CA is still trusted")
	}
}

// TestACAOfAFile: somebody else makes the certificates; the webhook writes their CA into
// the configurations and follows it.
func TestACAOfAFile(t *testing.T) {
	l, _, _ := faultLab(t)
	directory := t.TempDir()
	write := func(name string, data []byte) { must(t, os.WriteFile(directory+"/"+name, data, 0o600)) }
	first := authorityOf(t, time.Now().Add(-time.Minute), 24*time.Hour)
	write("tls.crt", first["tls.crt"])
	write("tls.key", first["tls.key"])
	write("issuer.pem", first["tls.crt"])
	flags := []string{"--certificates=files", "--cert-dir=" + directory, "--ca-name=issuer.pem"}
	_, err := l.StartReplica(testContext(t), "files", flags...)
	must(t, err)
	trusts := func(what string, all ...map[string][]byte) {
		t.Helper()
		for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			bundles, err := l.CABundles(t.Context())
			must(t, err)
			missing := 0
			for _, bundle := range bundles {
				for _, one := range all {
					if !strings.Contains(string(bundle), string(one["tls.crt"])) {
						missing++
					}
				}
			}
			if missing == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: missing in %d caBundles", what, missing)
			}
		}
	}
	trusts("at first", first)
	second := authorityOf(t, time.Now().Add(-time.Minute), 48*time.Hour)
	write("issuer.pem", second["tls.crt"])
	trusts("the former one stays, as it may still be served", first, second)
	setBundles(t, l, nil)
	trusts("after they were taken away", second)
}

// TestALostRaceIsAnsweredInvalid holds what the writer of caBundles takes for "somebody
// else wrote first" to what the API server says of a patch whose test fails.
func TestALostRaceIsAnsweredInvalid(t *testing.T) {
	configuration := &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: lab.Name}}
	patch := client.RawPatch(types.JSONPatchType, []byte(`[{"op":"test","path":"/metadata/resourceVersion","value":"1"}]`))
	if err := cluster.Client.Patch(testContext(t), configuration, patch, client.DryRunAll); !apierrors.IsInvalid(err) {
		t.Fatalf("got %v", err)
	}
}
