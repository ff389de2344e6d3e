package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// fault is something that breaks, and is whole again when do returns.
type fault struct {
	name   string
	allows []kind // refusals of Pods that ask, as docs/reliability.md has them
	down   bool   // the API server itself refuses, bystanders too
	delays bool   // replicas hear of changes later
	long   bool   // left out of a short run
	misses bool   // calls go unanswered for 2 s or break: in mode Webhook they are ignored, and the backstop refuses
	do     func(*chaos, context.Context) error
}

// What the kubelet takes to notice: an ended process in a second, by its relist; a silent one
// by three readiness probes, 2 s apart.
const (
	noticeEnd    = time.Second
	noticeSilent = 6 * time.Second
)

var faults = []*fault{
	{name: "a replica is restarted", do: (*chaos).restart},
	{name: "a replica is killed", misses: true, allows: []kind{broke, noListener}, do: (*chaos).killNewer},
	{name: "a replica stops for 3 s", misses: true, delays: true, do: func(c *chaos, ctx context.Context) error { return c.pause(ctx, 3*time.Second) }},
	{name: "a replica stops for 12 s", misses: true, allows: []kind{timedOut}, delays: true, long: true,
		do: func(c *chaos, ctx context.Context) error { return c.pause(ctx, 12*time.Second) }},
	{name: "the Lease is stolen", do: (*chaos).steal},
	{name: "the leader is killed", misses: true, allows: []kind{broke, noListener}, do: (*chaos).killLeader},
	{name: "the API server restarts", misses: true, allows: []kind{noEndpoint}, down: true, delays: true,
		do: func(c *chaos, _ context.Context) error { return c.lab.RestartAPIServer(3 * time.Second) }},
	{name: "etcd restarts", misses: true, allows: []kind{unread}, down: true, delays: true,
		do: func(c *chaos, _ context.Context) error { return c.lab.RestartEtcd(500 * time.Millisecond) }},
	{name: "the watches break", delays: true, do: func(c *chaos, _ context.Context) error { c.proxy.Cut(0); return nil }},
	{name: "the API server is out of reach for 3 s", misses: true, allows: []kind{unread}, delays: true,
		do: func(c *chaos, _ context.Context) error { c.proxy.Cut(3 * time.Second); return nil }},
	{name: "the API server is silent for 3 s", misses: true, delays: true, do: func(c *chaos, _ context.Context) error { c.proxy.Stall(3 * time.Second); return nil }},
	{name: "CA and leaf are replaced", do: (*chaos).replaceCA},
}

// happen lets one fault happen under load, and waits until it is healed.
func (c *chaos) happen(ctx context.Context, f *fault) error {
	begin := time.Now()
	c.history.begin(f)
	defer func() {
		c.history.end()
		c.t.Logf("%s %s: healed after %.1f s", begin.Format(time.TimeOnly), f.name, time.Since(begin).Seconds())
	}()
	if err := f.do(c, ctx); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return until(ctx, f.name+": healed", 40*time.Second, func() string { return c.missing(ctx) })
}

// missing is what a Pod of each way lacks.
func (c *chaos) missing(ctx context.Context) string {
	for _, w := range ways {
		if w == byFresh || w == byLater {
			continue // has no ServiceAccount
		}
		p := c.newPod(w, "probe")
		if err := c.lab.Client.Create(ctx, p, client.DryRunAll); err != nil {
			return fmt.Sprintf("by %s: %v", w, err)
		}
		if what, _ := lacks(w, p); what != "" {
			return fmt.Sprintf("by %s: lacks %s", w, what)
		}
	}
	return ""
}

// startReplica starts the next replica; the first one lives through the whole run.
func (c *chaos) startReplica(ctx context.Context) error {
	c.started++
	name := fmt.Sprintf("replica-%d", c.started)
	r, err := c.lab.StartReplica(ctx, name, "--kubeconfig="+c.kubeconfig, "--certificate-settle=2s", "--log-level=info")
	if err != nil {
		return err
	}
	c.ledger.joins(name)
	c.mutex.Lock()
	c.replicas = append(c.replicas, r)
	c.mutex.Unlock()
	return nil
}

func (c *chaos) running() []*lab.Replica {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]*lab.Replica(nil), c.replicas...)
}

// oldest lives through the run; newer is the one that is replaced.
func (c *chaos) oldest() *lab.Replica { return c.running()[0] }
func (c *chaos) newer() *lab.Replica  { return c.running()[1] }

func (c *chaos) drop(r *lab.Replica) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for i := range c.replicas {
		if c.replicas[i] == r {
			c.replicas = append(c.replicas[:i:i], c.replicas[i+1:]...)
			break
		}
	}
	c.ledger.leaves(r.Name)
}

// restart is a Deployment's: another one comes before one goes.
func (c *chaos) restart(ctx context.Context) error {
	old := c.newer()
	if err := c.startReplica(ctx); err != nil {
		return err
	}
	defer c.drop(old)
	return old.Terminate()
}

// killNewer kills a replica; another one is started in its place.
func (c *chaos) killNewer(ctx context.Context) error {
	victim := c.newer()
	c.drop(victim)
	victim.Crash(noticeEnd)
	c.history.after()
	return c.startReplica(ctx)
}

// pause stops one replica or the other.
func (c *chaos) pause(ctx context.Context, last time.Duration) error {
	victim := c.running()[c.random.IntN(2)]
	if err := victim.Pause(noticeSilent); err != nil {
		return err
	}
	if last > noticeSilent {
		time.Sleep(noticeSilent + 2*time.Second) // and a probe's own timeout, and the API server's watch
		c.history.after()
		last -= noticeSilent + 2*time.Second
	}
	time.Sleep(last)
	return errors.Join(victim.Resume(), victim.WaitReady(ctx))
}

func (c *chaos) lease(ctx context.Context) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	return lease, c.lab.Client.Get(ctx, client.ObjectKey{Namespace: lab.Namespace, Name: lab.Name}, lease)
}

// steal gives the Lease to nobody, who does not renew it.
func (c *chaos) steal(ctx context.Context) error {
	const thief = "nobody"
	err := until(ctx, "the Lease is stolen", 10*time.Second, func() string {
		lease, err := c.lease(ctx)
		if err == nil {
			lease.Spec.HolderIdentity, lease.Spec.RenewTime = ptr.To(thief), ptr.To(metav1.NowMicro())
			err = c.lab.Client.Update(ctx, lease)
		}
		return text(err)
	})
	if err != nil {
		return err
	}
	return until(ctx, "a replica leads again", 20*time.Second, func() string {
		lease, err := c.lease(ctx)
		if holder := ptr.Deref(lease.Spec.HolderIdentity, ""); err != nil || holder == thief || holder == "" {
			return fmt.Sprintf("%q leads, %v", holder, err)
		}
		return ""
	})
}

// killLeader kills the replica that leads, or after a few tries to make the newer one lead the
// one that is to live has its Lease stolen only.
func (c *chaos) killLeader(ctx context.Context) error {
	for range 4 {
		if leads, err := c.newer().Metric(ctx, "leader_election_master_status"); err != nil || leads == 1 {
			return errors.Join(err, c.killNewer(ctx))
		}
		if err := c.steal(ctx); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	c.spared++
	return nil
}

// replaceCA takes the CA away, and waits until every replica serves a leaf of another.
func (c *chaos) replaceCA(ctx context.Context) error {
	key := client.ObjectKey{Namespace: lab.Namespace, Name: "bucket-access-webhook-ca"}
	old := c.lab.Certificate(ctx, key)
	if old == nil {
		return errors.New("the Secret holds no CA")
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if err := c.lab.Client.Delete(ctx, secret); err != nil {
		return err
	}
	return until(ctx, "the leaf of a new CA is served", 40*time.Second, func() string {
		ca := c.lab.Certificate(ctx, key)
		if ca == nil || ca.Equal(old) {
			return "there is no new CA"
		}
		bundles, err := c.lab.CABundles(ctx)
		if err != nil {
			return err.Error()
		}
		for _, r := range c.running() {
			served, err := r.Greet(ctx, bundles[0])
			if err != nil {
				return err.Error()
			}
			if served.CheckSignatureFrom(ca) != nil {
				return r.Name + " serves the old one"
			}
		}
		return ""
	})
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
