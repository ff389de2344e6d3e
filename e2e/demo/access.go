package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// content is the object that is read in the end.
const content = `{"orders": 42, "currency": "EUR"}`

// access is the other half: Account B, and an object that is really read.
type access struct {
	b      *lab.AccountB
	policy *policy.Policy
	pod    *corev1.Pod
	reader *lab.ReaderProcess
}

// accountB sets Account B up with what is generated from the policy.
func (d *demo) accountB(ctx context.Context) (err error) {
	d.out.chapter("Account B: a real S3, IAM and STS, set up from the same policy")
	a := &access{}
	d.access = a
	if a.b, err = d.lab.StartAccountB(ctx); err != nil {
		return err
	}
	document := a.b.Document("config-data", "config-reader", "{namespace: default, serviceAccount: api-sa}")
	d.out.document(document)
	if a.policy, err = d.lab.ApplyPolicy(ctx, "config", document); err != nil {
		return err
	}
	trust, err := a.policy.TrustPolicy(d.lab.Issuer)
	if err != nil {
		return err
	}
	d.out.heading(fmt.Sprintf("The role's trust policy (%d of %d characters)", trust.Size(), iam.TrustPolicyQuota))
	d.out.document(string(trust.JSON()))
	d.out.heading("The role's permission policy")
	d.out.document(string(iam.PermissionPolicy(a.policy.Grant()).JSON()))
	for _, step := range []func() error{
		func() error { return a.b.CreateProvider(ctx, a.policy.Audience) },
		func() error { return a.b.CreateRole(ctx, a.policy) },
		func() error { return a.b.CreateBucket(ctx, a.policy.Bucket, map[string]string{"config.json": content}) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	d.done = append(d.done, "Account B trusts the cluster's issuer for exactly one ServiceAccount, generated from the policy")
	return nil
}

// object reads the object with the token of the Pod, through the reader.
func (d *demo) object(ctx context.Context) (err error) {
	d.out.chapter("The object is read, without any key")
	a := d.access
	a.pod = &corev1.Pod{}
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: api, namespace: default, labels: {bucket-access.io/policy: config}}\n" +
		"spec:\n  serviceAccountName: api-sa\n  containers:\n  - {name: app, image: registry.k8s.io/pause:3.10}\n"
	d.out.document(manifest)
	d.out.command("kubectl create -f -")
	if _, stderr, err := d.lab.Kubectl(ctx, manifest, "create", "-f", "-"); err != nil {
		return fmt.Errorf("creating the Pod: %s", stderr)
	}
	if err := d.lab.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: "api"}, a.pod); err != nil {
		return err
	}
	d.out.progress("no node runs here: the sidecar that was injected runs as a process, with exactly the Pod's variables, files and user")
	if a.reader, err = d.lab.StartReader(ctx, a.pod, nil); err != nil {
		return err
	}
	report, err := a.reader.Report(ctx)
	if err != nil {
		return err
	}
	for _, check := range report.Checks {
		if check.State != "OK" {
			return fmt.Errorf("access is not proven: %s", report.Line())
		}
		d.out.say("  %s %s: %s\n", d.out.paint(green, "ok"), check.Title, d.out.paint(dim, check.Detail))
	}
	body, err := d.curl(ctx, a.reader, "/s3/config.json")
	if err != nil {
		return err
	}
	if body != content {
		return fmt.Errorf("the object reads %q, and was written as %q", body, content)
	}
	d.out.document(body)
	d.done = append(d.done, "the cluster's token is traded at STS, and the object is read: "+body)
	return nil
}

// curl asks the reader by curl, where there is one, and shows the answer.
func (d *demo) curl(ctx context.Context, r *lab.ReaderProcess, path string) (string, error) {
	url := "http://" + r.Address + path
	d.out.command("curl " + url)
	var body []byte
	var err error
	if curl, missing := exec.LookPath("curl"); missing == nil {
		body, err = exec.CommandContext(ctx, curl, "--silent", "--show-error", "--noproxy", "*", url).Output()
	} else {
		_, body, err = r.Get(ctx, path)
	}
	if err != nil {
		return "", fmt.Errorf("curl %s: %w", url, err)
	}
	return strings.TrimSpace(string(body)), nil
}

// broken is a set-up with one mistake, and what the reader says of it.
type broken struct {
	title string
	token func(context.Context) (string, error) // in place of the Pod's; may be nil
	deny  bool
	want  diagnosis.Cause
	claim string
}

func (d *demo) brokenSetUps(ctx context.Context) error {
	d.out.chapter("Three broken set-ups, and what the reader says of each")
	a := d.access
	for _, b := range []broken{
		{"The token of another ServiceAccount", func(ctx context.Context) (string, error) {
			other := &corev1.Pod{}
			other.Name, other.Namespace, other.Spec.ServiceAccountName = "other", "default", "default"
			other.Spec.Containers = []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}
			if err := d.lab.Client.Create(ctx, other); err != nil {
				return "", err
			}
			return d.lab.Token(ctx, other, a.policy.Audience, 600)
		}, false, diagnosis.WrongSubject, "a wrong subject is refused by STS and named by the reader"},
		{"A token for another audience", func(ctx context.Context) (string, error) {
			return d.lab.Token(ctx, a.pod, "https://vault.example.com", 600)
		}, false, diagnosis.WrongAudience, "a wrong audience is refused by STS and named by the reader"},
		{"An explicit Deny in the bucket's policy", nil, true, diagnosis.ExplicitDenyBucketPolicy, "an explicit Deny is refused by S3 and named by the reader"},
	} {
		if err := d.broken(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", b.title, err)
		}
		d.done = append(d.done, b.claim)
	}
	return a.b.SetBucketPolicy(ctx, a.policy.Bucket, iam.Document{}) // as it was, for DEMO_KEEP
}

func (d *demo) broken(ctx context.Context, b broken) error {
	a := d.access
	d.out.heading(b.title)
	if b.deny {
		statement := iam.Statement{
			Effect: iam.Deny, Principal: iam.Principal{iam.Anyone: {iam.Anyone}}, Action: iam.Values{"s3:GetObject"},
			Resource: iam.Values{"arn:aws:s3:::" + a.policy.Bucket + "/*"},
		}
		if err := a.b.SetBucketPolicy(ctx, a.policy.Bucket, iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{statement}}); err != nil {
			return err
		}
	}
	var token *string
	if b.token != nil {
		text, err := b.token(ctx)
		if err != nil {
			return err
		}
		token = &text
	}
	r, err := d.lab.StartReader(ctx, a.pod, func(start *lab.PodStart) { start.Token = token })
	if err != nil {
		return err
	}
	defer r.Stop()
	if _, err := r.Report(ctx); err != nil {
		return err
	}
	body, err := d.curl(ctx, r, "/s3/config.json")
	if err != nil {
		return err
	}
	var problem struct {
		Cause              diagnosis.Cause
		Title, Detail, Fix string
		Answer             *diagnosis.Answer
	}
	if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Cause != b.want || problem.Answer == nil {
		return fmt.Errorf("expected %s with AWS's answer, got: %s", b.want, body)
	}
	d.out.refusal(fmt.Sprintf("%s: %s\nfound: %s\n", problem.Cause, problem.Title, problem.Detail))
	d.out.say("  %s\n  %s\n", d.out.paint(green, "fix: "+problem.Fix),
		d.out.paint(dim, fmt.Sprintf("raw answer: %s %s, HTTP %d %s", problem.Answer.Service, problem.Answer.Operation, problem.Answer.Status, problem.Answer.Code)))
	return nil
}

// publish passes connections from a listener on the machine's own loopback on into the
// lab's network.
func publish(n int, address string) (string, error) {
	listener, outside, err := lab.Outside(n)
	if err != nil {
		return "", err
	}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address)
			if err != nil {
				_ = from.Close()
				continue
			}
			pass := func(a, b net.Conn) { defer a.Close(); _, _ = io.Copy(a, b) }
			go pass(from, to)
			go pass(to, from)
		}
	}()
	return outside, nil
}
