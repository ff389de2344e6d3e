package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// content is the object that is read in the end.
const content = `{"orders": 42, "currency": "EUR"}`

// access is the other half: Account B, and an object that is really read.
type access struct {
	b      *lab.AccountB
	issuer string
	policy *policy.Policy
	pod    *corev1.Pod
	reader *sidecar
}

// accountB sets Account B up with what is generated from the policy.
func (d *demo) accountB(ctx context.Context) (err error) {
	d.out.chapter("Account B: a real S3, IAM and STS, set up from the same policy")
	a := &access{issuer: d.lab.Issuer}
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
	if a.pod, err = d.createPod(ctx, "api"); err != nil {
		return err
	}
	if a.reader, err = d.stage.reader(ctx, a.pod, nil); err != nil {
		return err
	}
	report, err := a.reader.report(ctx)
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
	if err := d.page(ctx); err != nil {
		return err
	}
	return d.stage.application(ctx, d, a.pod)
}

var title = regexp.MustCompile(`(?s)<title>(.*?)</title>`)

// page is the reader's own, which people open in a browser.
func (d *demo) page(ctx context.Context) error {
	html, err := d.access.reader.get(ctx, "/")
	if err != nil {
		return err
	}
	found := title.FindSubmatch(html)
	if found == nil {
		return fmt.Errorf("the reader's page has no title: %.200s", html)
	}
	d.out.say("  %s\n", d.out.paint(dim, fmt.Sprintf("the reader's page is %q, %d bytes; DEMO_KEEP=1 make demo leaves it open", found[1], len(html))))
	d.done = append(d.done, "the reader's page shows the checks")
	return nil
}

// createPod makes a Pod whose application reads the object and whose label says nothing
// but the policy's name.
func (d *demo) createPod(ctx context.Context, name string) (*corev1.Pod, error) {
	manifest := "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: default, labels: {bucket-access.io/policy: config}}\n" +
		"spec:\n  serviceAccountName: api-sa\n  containers:\n  - {name: app, image: " + d.stage.image() + ", args: [-hold, -retry=20s, config.json]}\n"
	d.out.document(manifest)
	d.out.command("kubectl create -f -")
	if _, stderr, err := d.lab.Kubectl(ctx, manifest, "create", "-f", "-"); err != nil {
		return nil, fmt.Errorf("creating the Pod: %s", stderr)
	}
	pod := &corev1.Pod{}
	return pod, d.lab.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, pod)
}

// curl asks the reader by curl, where there is one, and shows the answer.
func (d *demo) curl(ctx context.Context, r *sidecar, path string) (string, error) {
	url := "http://" + r.address + path
	d.out.command("curl " + url)
	var body []byte
	var err error
	if curl, missing := exec.LookPath("curl"); missing == nil {
		body, err = exec.CommandContext(ctx, curl, "--silent", "--show-error", "--noproxy", "*", url).Output()
	} else {
		body, err = r.get(ctx, path)
	}
	if err != nil {
		return "", fmt.Errorf("curl %s: %w", url, err)
	}
	return strings.TrimSpace(string(body)), nil
}
