package main

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// broken is a set-up with one mistake, and what the reader says of it.
type broken struct {
	title string
	token func(context.Context) (string, error) // in place of the Pod's; may be nil
	wreck func(context.Context) error           // Account B; may be nil
	want  diagnosis.Cause
	claim string
}

func (d *demo) brokenSetUps(ctx context.Context) error {
	d.out.chapter("Three broken set-ups, and what the reader says of each")
	a := d.access
	for _, b := range d.stage.broken(d) {
		if err := d.broken(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", b.title, err)
		}
		d.done = append(d.done, b.claim)
	}
	return a.repair(ctx) // as it was, for DEMO_KEEP
}

// repair sets Account B up as the policy says.
func (a *access) repair(ctx context.Context) error {
	trust, err := a.policy.TrustPolicy(a.issuer)
	if err != nil {
		return err
	}
	if err := a.b.SetTrust(ctx, a.policy, trust); err != nil {
		return err
	}
	if err := a.b.SetPermissions(ctx, a.policy, iam.PermissionPolicy(a.policy.Grant())); err != nil {
		return err
	}
	return a.b.SetBucketPolicy(ctx, a.policy.Bucket, iam.Document{})
}

// deny forbids everybody to read the objects, by the bucket's policy.
func (a *access) deny(ctx context.Context) error {
	statement := iam.Statement{
		Effect: iam.Deny, Principal: iam.Principal{iam.Anyone: {iam.Anyone}}, Action: iam.Values{"s3:GetObject"},
		Resource: iam.Values{"arn:aws:s3:::" + a.policy.Bucket + "/*"},
	}
	return a.b.SetBucketPolicy(ctx, a.policy.Bucket, iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{statement}})
}

// trustAnother makes the role trust another ServiceAccount than the policy lists.
func (a *access) trustAnother(ctx context.Context) error {
	other := *a.policy
	other.Subjects = policy.NewSubjects([]v1alpha1.Subject{{Namespace: "default", ServiceAccount: "another"}})
	trust, err := other.TrustPolicy(a.issuer)
	if err != nil {
		return err
	}
	return a.b.SetTrust(ctx, a.policy, trust)
}

// grantLess takes reading out of the role's permissions.
func (a *access) grantLess(ctx context.Context) error {
	grant := a.policy.Grant()
	grant.Actions = []string{"s3:ListBucket"}
	return a.b.SetPermissions(ctx, a.policy, iam.PermissionPolicy(grant))
}

func (d *demo) broken(ctx context.Context, b broken) error {
	a := d.access
	d.out.heading(b.title)
	if err := a.repair(ctx); err != nil {
		return err
	}
	if b.wreck != nil {
		if err := b.wreck(ctx); err != nil {
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
	pod, err := d.stage.podOf(ctx, d, b)
	if err != nil {
		return err
	}
	r, err := d.stage.reader(ctx, pod, token)
	if err != nil {
		return err
	}
	defer r.stop()
	if _, err := r.report(ctx); err != nil {
		return err
	}
	body, err := d.curl(ctx, r, "/s3/config.json")
	if err != nil {
		return err
	}
	return d.explain(b, body)
}

// explain shows what the reader says where the object can't be had.
func (d *demo) explain(b broken, body string) error {
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

// otherAccountsPod is one of another ServiceAccount, whose token is asked for.
func otherAccountsPod() *corev1.Pod {
	other := &corev1.Pod{}
	other.Name, other.Namespace, other.Spec.ServiceAccountName = "other", "default", "default"
	other.Spec.Containers = []corev1.Container{{Name: "app", Image: "registry.k8s.io/pause:3.10"}}
	return other
}
