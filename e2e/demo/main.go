// Command demo shows the main job on a real API server and a real S3, IAM and STS: a
// label, and an object of another account is read; a mistake, and a sentence says what
// to do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

func main() {
	if code, again := lab.Isolate(2); again {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	d := &demo{out: newPrinter(os.Stdout)}
	err := d.run(ctx, os.Getenv("DEMO_KEEP") != "")
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type demo struct {
	out    *printer
	lab    *lab.Lab
	access *access
	done   []string
}

// run goes through the demo; an answer that is not the expected one is an error.
func (d *demo) run(ctx context.Context, keep bool) (err error) {
	d.lab, err = lab.Start(ctx, lab.Options{Progress: d.out.progress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.lab.Stop()) }()
	d.out.progress("starting two replicas of the webhook")
	for _, name := range []string{"replica-a", "replica-b"} {
		if _, err := d.lab.StartReplica(ctx, name); err != nil {
			return err
		}
	}
	for _, act := range []func(context.Context) error{
		d.policy, d.serviceAccount, d.pod, d.namespace, d.mistakes, d.accountB, d.object, d.brokenSetUps,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	d.out.summary(d.done)
	if keep {
		return d.keep(ctx)
	}
	return nil
}

// keep leaves the lab running, reachable from outside of its network.
func (d *demo) keep(ctx context.Context) error {
	server, err := publish(0, strings.TrimPrefix(d.lab.Issuer, "https://")+":443")
	if err != nil {
		return err
	}
	page, err := publish(1, d.access.reader.Address)
	if err != nil {
		return err
	}
	kubeconfig, err := d.lab.WriteKubeconfig("outside.kubeconfig", "https://"+server)
	if err != nil {
		return err
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
