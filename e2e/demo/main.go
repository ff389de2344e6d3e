// Command demo shows the main job on a real API server and a real S3, IAM and STS: a
// label, and an object of another account is read; a mistake, and a sentence says what
// to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bucket-access/bucket-access-webhook/e2e/cluster"
	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/e2e/node"
)

func main() {
	provider, why := choose()
	if provider != cluster.Kind {
		if code, again := lab.Isolate(2, node.Sweep); again {
			os.Exit(code)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	d := &demo{out: newPrinter(os.Stdout)}
	if why != "" {
		d.out.progress("%s: webhook and reader run as processes beside an API server", why)
	}
	err := d.run(ctx, provider, os.Getenv("DEMO_KEEP") != "")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// choose takes the best that this machine can do; an empty provider is no Pods, and why.
func choose() (provider, why string) {
	if asked := os.Getenv("PROVIDER"); asked == cluster.Node || asked == cluster.Kind {
		return asked, ""
	}
	missing, why := node.Missing()
	if why == "" && len(missing) == 0 {
		return cluster.Node, ""
	}
	if exec.Command("docker", "version", "--format", "{{.Server.Version}}").Run() == nil {
		return cluster.Kind, ""
	}
	if why == "" {
		why = "a node needs " + strings.Join(missing, ", ")
	}
	return "", why + ", and no Docker engine answers"
}

type demo struct {
	out    *printer
	lab    *lab.Lab
	stage  stage
	access *access
	done   []string
}

// run goes through the demo; an answer that is not the expected one is an error.
func (d *demo) run(ctx context.Context, provider string, keep bool) (err error) {
	start := d.startProcesses
	if provider != "" {
		start = func(ctx context.Context) (func() error, error) { return d.startCluster(ctx, provider) }
	}
	end, err := start(ctx)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	for _, act := range []func(context.Context) error{
		d.policy, d.serviceAccount, d.pod, d.namespace, d.mistakes, d.accountB, d.object, d.brokenSetUps,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	d.out.summary(d.done, d.stage.where())
	if keep {
		return d.keep(ctx, provider)
	}
	return nil
}

// startCluster brings up a cluster with Pods and installs the chart by Helm.
func (d *demo) startCluster(ctx context.Context, provider string) (end func() error, err error) {
	c, err := cluster.Start(ctx, cluster.Options{Provider: provider, WithoutBucket: true, Progress: d.out.progress})
	if err != nil {
		return c.Stop, err
	}
	d.lab, d.stage = c.Lab, &pods{lab: c.Lab, app: c.Images.App}
	d.out.chapter("The webhook is installed by Helm")
	webhook, reader := strings.Split(c.Images.Webhook, ":"), strings.Split(c.Images.Reader, ":")
	args := []string{"install", "bucket-access", "charts/bucket-access-webhook", "-n", lab.Namespace, "--create-namespace", "--wait", "--timeout=2m"}
	d.out.command("helm " + strings.Join(args, " "))
	if _, err := c.Helm(ctx, 4, append(args, "--set-string", "image.repository="+webhook[0]+",image.tag="+webhook[1],
		"--set-string", "reader.image.repository="+reader[0]+",reader.image.tag="+reader[1])...); err != nil {
		return c.Stop, err
	}
	pods, err := d.kubectl(ctx, "-n", lab.Namespace, "get", "pods")
	d.out.document(pods)
	d.done = append(d.done, "the chart is installed by Helm, and two replicas serve")
	return c.Stop, err
}

// startProcesses is for machines that can't run Pods.
func (d *demo) startProcesses(ctx context.Context) (end func() error, err error) {
	if d.lab, err = lab.Start(ctx, lab.Options{Progress: d.out.progress}); err != nil {
		return func() error { return nil }, err
	}
	d.stage = &processes{lab: d.lab}
	d.out.progress("starting two replicas of the webhook")
	for _, name := range []string{"replica-a", "replica-b"} {
		if _, err := d.lab.StartReplica(ctx, name); err != nil {
			return d.lab.Stop, err
		}
	}
	return d.lab.Stop, nil
}

// keep leaves the cluster running, reachable from outside of its network.
func (d *demo) keep(ctx context.Context, provider string) error {
	page, kubeconfig := d.access.reader.address, d.lab.Kubeconfig
	if provider != cluster.Kind {
		server, err := publish(0, strings.TrimPrefix(d.lab.Issuer, "https://")+":443")
		if err != nil {
			return err
		}
		if page, err = publish(1, page); err != nil {
			return err
		}
		if kubeconfig, err = d.lab.WriteKubeconfig("outside.kubeconfig", "https://"+server); err != nil {
			return err
		}
	}
	d.out.say("The cluster runs until you press Ctrl-C. The reader's page: http://%s/\nIn another terminal:\n  export KUBECONFIG=%s\n  alias kubectl=%s\n",
		page, kubeconfig, filepath.Join(d.lab.Repository, "bin", "kube", "kubectl"))
	<-ctx.Done()
	return nil
}

// kubectl runs a command that must work.
func (d *demo) kubectl(ctx context.Context, args ...string) (string, error) {
	stdout, stderr, err := d.lab.Kubectl(ctx, "", args...)
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %s", strings.Join(args, " "), stderr)
	}
	return stdout, nil
}

func (d *demo) policy(ctx context.Context) error {
	d.out.chapter("A policy: who may read which bucket of another account")
	text, err := os.ReadFile(filepath.Join(d.lab.Repository, "manifests", "samples", "policy-orders.yaml"))
	if err != nil {
		return err
	}
	d.out.document(string(text))
	d.out.command("kubectl apply -f manifests/samples/policy-orders.yaml")
	_, err = d.kubectl(ctx, "apply", "-f", "manifests/samples/policy-orders.yaml")
	return err
}

func (d *demo) serviceAccount(ctx context.Context) error {
	d.out.chapter("The label on a ServiceAccount")
	return d.beforeAfter(ctx, "manifests/samples/serviceaccount.yaml", "serviceaccount", "default", "api-sa",
		`"eks.amazonaws.com/role-arn"`, "a labelled ServiceAccount carries the role")
}

func (d *demo) pod(ctx context.Context) error {
	d.out.chapter("The label on a Pod")
	return d.beforeAfter(ctx, "manifests/samples/pod.yaml", "pod", "default", "orders-api",
		`"AWS_WEB_IDENTITY_TOKEN_FILE"`, "a labelled Pod has role, token volume and BUCKET_NAME")
}

func (d *demo) namespace(ctx context.Context) error {
	d.out.chapter("The label on a Namespace, and a Pod in it that says nothing")
	d.out.command("kubectl apply -f manifests/samples/namespace.yaml")
	if _, err := d.kubectl(ctx, "apply", "-f", "manifests/samples/namespace.yaml"); err != nil {
		return err
	}
	if err := d.lab.EnsureDefaultAccount(ctx, "shop"); err != nil {
		return err
	}
	return d.beforeAfter(ctx, "manifests/samples/pod-of-namespace.yaml", "pod", "shop", "checkout",
		`"BUCKET_NAME"`, "a Pod of a labelled Namespace has them too")
}

// beforeAfter applies a manifest and shows what the API server made of it, beside
// what was written.
func (d *demo) beforeAfter(ctx context.Context, file, kind, namespace, name, want, claim string) error {
	before, err := os.ReadFile(filepath.Join(d.lab.Repository, file))
	if err != nil {
		return err
	}
	d.out.command("kubectl apply -f " + file)
	if _, err := d.kubectl(ctx, "apply", "-f", file); err != nil {
		return err
	}
	after, err := d.kubectl(ctx, "-n", namespace, "get", kind, name, "-o", "json")
	if err != nil {
		return err
	}
	if !strings.Contains(after, want) {
		return fmt.Errorf("%s %s/%s came out without %s", kind, namespace, name, want)
	}
	written, err := essence(before)
	if err != nil {
		return err
	}
	made, err := essence([]byte(after))
	if err != nil {
		return err
	}
	d.out.difference(written, made)
	d.done = append(d.done, claim)
	return nil
}

// mistake is one thing that goes wrong, and the sentence that says so.
type mistake struct {
	title, manifest, want, claim string
}

func (d *demo) mistakes(ctx context.Context) error {
	d.out.chapter("Mistakes are refused with a sentence")
	pod := func(name, account, env string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: default, labels: {bucket-access.io/policy: orders}}\n" +
			"spec:\n  serviceAccountName: " + account + "\n  containers:\n  - {name: app, image: registry.k8s.io/pause:3.10, env: [" + env + "]}\n"
	}
	for _, m := range []mistake{
		{
			"A policy with errors",
			"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\n  namespace: " + lab.Namespace +
				"\n  labels: {bucket-access.io/policies: \"true\"}\ndata:\n  invoices: |\n    apiVersion: bucket-access.io/v1alpha1\n" +
				"    kind: BucketAccessPolicy\n    bucket: Invoices_Data\n    region: eu-west-1\n    roleARN: arn:aws:iam::2222:role/x\n    subject: []\n",
			"data[invoices].bucket", "a bad policy is refused with all its errors",
		},
		{"A Pod of the wrong ServiceAccount", pod("wrong-account", "default", ""), "does not list system:serviceaccount:default:default",
			"a Pod of the wrong ServiceAccount is told which are listed"},
		{"A Pod with static keys", pod("static-keys", "api-sa", "{name: AWS_ACCESS_KEY_ID, value: AKIAEXAMPLE}"), "sets AWS_ACCESS_KEY_ID",
			"a Pod with static keys is refused"},
	} {
		d.out.heading(m.title)
		d.out.document(m.manifest)
		_, stderr, err := d.lab.Kubectl(ctx, m.manifest, "create", "-f", "-")
		if err == nil || !strings.Contains(stderr, m.want) {
			return fmt.Errorf("%s: expected a refusal with %q, got: %s", m.title, m.want, stderr)
		}
		d.out.refusal(stderr)
		d.done = append(d.done, m.claim)
	}
	return nil
}
