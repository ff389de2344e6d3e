package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// chaos is one run.
type chaos struct {
	settings
	t               *testing.T
	lab             *lab.Lab
	proxy           *lab.Proxy // between replicas and API server
	kubeconfig      string     // of the replicas
	plain, labelled string     // Namespaces
	ledger          *ledger
	history         *history
	random          *rand.Rand // of the faults
	randomPolicies  *rand.Rand
	started, spared int

	mutex    sync.Mutex
	replicas []*lab.Replica
	changes  changes
	breaches []string
}

// broken notes that an invariant is.
func (c *chaos) broken(format string, args ...any) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.breaches = append(c.breaches, time.Now().Format(time.TimeOnly)+" "+fmt.Sprintf(format, args...))
	if len(c.breaches) <= 40 {
		c.t.Log("BROKEN: " + c.breaches[len(c.breaches)-1])
	}
}

// TestChaos: whatever breaks, no Pod that asks comes up without injection or with an old
// policy, no bystander notices, and nothing is refused but what docs/reliability.md allows.
func TestChaos(t *testing.T) {
	c := newChaos(t)
	l := newLoad(c)
	t.Logf("CHAOS_SEED=%d, %s: at least %d creations and %d changes that are broken and mended, at most %s", c.seed, c.lab.Manifests(), c.pods, c.settings.changes, c.limit)
	ctx, stop := context.WithTimeout(t.Context(), c.limit)
	defer stop()
	must(t, l.start(ctx))
	var beside sync.WaitGroup
	beside.Go(func() { c.history.watchTheMachine(ctx) })
	beside.Go(func() { c.askReplicas(ctx) })
	beside.Go(func() {
		if err := c.changePolicies(ctx); err != nil {
			c.broken("%v", err)
		}
	})
	time.Sleep(5 * time.Second)
	first, err := l.settled(t.Context())
	must(t, err)
	begin := time.Now()
	counts := map[*fault]int{}
	for n := 0; ctx.Err() == nil && (n < len(faults) || !c.enough(l)); n++ {
		f := faults[n%len(faults)]
		if f.long && c.short {
			continue
		}
		if n >= len(faults) {
			f = faults[c.random.IntN(len(faults))]
		}
		counts[f]++
		if err := c.happen(ctx, f); err != nil {
			if ctx.Err() == nil { // else the time is over, and what was to be done is judged below
				c.broken("%v", err)
			}
			break
		}
		time.Sleep(time.Second + grace) // in which no fault is an excuse
	}
	last, err := l.settled(t.Context())
	if err != nil {
		c.broken("measuring: %v", err)
	}
	took := time.Since(begin)
	stop()
	l.group.Wait()
	beside.Wait()
	if err := l.sweep(t.Context()); err != nil {
		c.broken("looking at the Pods that are left: %v", err)
	}
	c.wantAccounts(t)
	c.wantNoGrowth(first, last)
	report{c, l, counts, first, last, took}.print(os.Stdout)
	if !c.enough(l) {
		t.Errorf("%d creations and %d changes in %s: fewer than were asked for", l.total(), c.changes.mended, c.limit)
	}
	for _, breach := range c.breaches {
		t.Error(breach)
	}
}

func (c *chaos) enough(l *load) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return l.total() >= c.pods && c.changes.mended >= c.settings.changes
}

// newChaos brings up a lab with two replicas that reach the API server by a proxy, and what the
// load needs.
func newChaos(t *testing.T) *chaos {
	t.Helper()
	ctx := t.Context()
	s := theSettings(t)
	l, err := lab.Start(ctx, lab.Options{Manifests: s.manifests, LogDir: os.Getenv("LOG_DIR")})
	must(t, err)
	t.Cleanup(func() { must(t, l.Stop()) })
	c := &chaos{
		settings: s, t: t, lab: l, ledger: newLedger(), history: &history{webhook: !strings.HasSuffix(l.Manifests(), "/default")},
		random: rand.New(rand.NewPCG(s.seed, 1)), randomPolicies: rand.New(rand.NewPCG(s.seed, 2)),
		plain: "chaos-plain", labelled: "chaos-labelled",
	}
	c.proxy, err = l.StartProxy(ctx)
	must(t, err)
	c.kubeconfig, err = l.WebhookKubeconfig("chaos.kubeconfig", c.proxy.URL())
	must(t, err)
	for _, namespace := range []*corev1.Namespace{
		{ObjectMeta: metav1.ObjectMeta{Name: c.plain}},
		{ObjectMeta: metav1.ObjectMeta{Name: c.labelled, Labels: map[string]string{policyLabel: policyName}}},
	} {
		must(t, l.Client.Create(ctx, namespace))
		must(t, l.EnsureDefaultAccount(ctx, namespace.Name))
	}
	labelled := freshAccount(c.newPod(byAccount, ""))
	must(t, l.Client.Create(ctx, labelled))
	must(t, l.Client.Create(ctx, lab.PolicyConfigMap(policyName, document(c.ledger.next()))))
	must(t, l.Client.Create(ctx, lab.PolicyConfigMap(steadyName, "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: steady-data\n"+
		"region: eu-west-1\nroleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: '*', serviceAccount: '*'}]\n")))
	c.letBrokenPoliciesIn(t)
	for range 2 {
		must(t, c.startReplica(ctx))
	}
	must(t, until(ctx, "the installation is in force", time.Minute, func() string { return c.missing(ctx) }))
	return c
}

// letBrokenPoliciesIn takes away the entry that refuses them, as when it was down.
func (c *chaos) letBrokenPoliciesIn(t *testing.T) {
	t.Helper()
	var configuration registrationv1.ValidatingWebhookConfiguration
	must(t, c.lab.Client.Get(t.Context(), client.ObjectKey{Name: lab.Name}, &configuration))
	var kept []registrationv1.ValidatingWebhook
	for i := range configuration.Webhooks {
		if configuration.Webhooks[i].Name != "policies.bucket-access.io" {
			kept = append(kept, configuration.Webhooks[i])
		}
	}
	configuration.Webhooks = kept
	must(t, c.lab.Client.Update(t.Context(), &configuration))
}

// wantAccounts: the ServiceAccount that was there all the time ends with the last version.
func (c *chaos) wantAccounts(t *testing.T) {
	t.Helper()
	want := fmt.Sprint(injectionOf(c.ledger.acknowledged(time.Now()).version).TokenExpiration)
	err := until(t.Context(), "the ServiceAccount has the last version", 20*time.Second, func() string {
		var account corev1.ServiceAccount
		if err := c.lab.Client.Get(t.Context(), client.ObjectKey{Namespace: c.plain, Name: "labelled"}, &account); err != nil {
			return err.Error()
		}
		if got := account.Annotations["eks.amazonaws.com/token-expiration"]; got != want {
			return fmt.Sprintf("expiration %q, want %s", got, want)
		}
		return ""
	})
	if err != nil {
		c.broken("%v", err)
	}
}
