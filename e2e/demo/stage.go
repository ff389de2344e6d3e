package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/reader"
)

// stage is where the demo's webhook and Pods run: in a cluster with a node, or, where no
// node can run, as processes beside an API server.
type stage interface {
	// image is that of the demo's application.
	image() string
	// reader is the sidecar of a Pod, with another token if one is given.
	reader(ctx context.Context, pod *corev1.Pod, token *string) (*sidecar, error)
	// application shows what the Pod's own container has read.
	application(ctx context.Context, d *demo, pod *corev1.Pod) error
	// podOf is the Pod to try a broken set-up with.
	podOf(ctx context.Context, d *demo, b broken) (*corev1.Pod, error)
	broken(d *demo) []broken
	// where is said in the summary.
	where() string
}

// sidecar is a reader that runs.
type sidecar struct {
	address string
	stop    func()
}

// report waits until the reader has looked, and returns what it found.
func (s *sidecar) report(ctx context.Context) (*reader.Report, error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		var report reader.Report
		body, err := s.get(ctx, "/status")
		if err == nil && json.Unmarshal(body, &report) == nil && !report.CheckedAt.IsZero() {
			return &report, nil
		}
	}
	return nil, errors.New("the reader has not answered in a minute")
}

func (s *sidecar) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// pods are real ones, on a cluster with a node.
type pods struct {
	lab *lab.Lab
	app string
}

func (s *pods) image() string { return s.app }
func (s *pods) where() string { return "a real Kubernetes with its Pods, S3, IAM and STS" }

func (s *pods) reader(ctx context.Context, pod *corev1.Pod, _ *string) (*sidecar, error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		address, stop, err := s.lab.Forward(ctx, pod.Namespace, pod.Name, "21840")
		if err == nil {
			r := &sidecar{address: address, stop: stop}
			if _, err = r.get(ctx, "/status"); err == nil {
				return r, nil
			}
			stop()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("the reader of %s does not answer: %w", pod.Name, err)
		}
	}
}

func (s *pods) application(ctx context.Context, d *demo, pod *corev1.Pod) error {
	d.out.command("kubectl logs " + pod.Name + " -c app")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		stdout, stderr, err := s.lab.Kubectl(ctx, "", "logs", pod.Name, "-c", "app")
		switch {
		case err == nil && strings.Contains(stdout, `\"orders\": 42`):
			d.out.document(stdout)
			d.done = append(d.done, "the Pod's own application, a program with nothing but the AWS SDK, has read it too")
			return nil
		case time.Now().After(deadline) || ctx.Err() != nil:
			return fmt.Errorf("the application of %s has not read the object: %s%s", pod.Name, stdout, stderr)
		}
	}
}

// podOf makes a new Pod, which has neither a session nor a result of before.
func (s *pods) podOf(ctx context.Context, d *demo, b broken) (*corev1.Pod, error) {
	return d.createPod(ctx, strings.ToLower(string(b.want)))
}

func (s *pods) broken(d *demo) []broken {
	return []broken{
		{"The role in Account B trusts another ServiceAccount", nil, d.access.trustAnother, diagnosis.TokenRefused,
			"a role that trusts another ServiceAccount is named by the reader"},
		{"The role's permissions lack s3:GetObject", nil, d.access.grantLess, diagnosis.NotGranted, "a missing grant is refused by S3 and named by the reader"},
		{"An explicit Deny in the bucket's policy", nil, d.access.deny, diagnosis.ExplicitDenyBucketPolicy,
			"an explicit Deny is refused by S3 and named by the reader"},
	}
}

// processes are the webhook and the sidecars as processes beside an API server.
type processes struct {
	lab *lab.Lab
}

func (s *processes) image() string { return "registry.k8s.io/pause:3.10" }
func (s *processes) where() string { return "a real kube-apiserver, S3, IAM and STS" }

func (s *processes) reader(ctx context.Context, pod *corev1.Pod, token *string) (*sidecar, error) {
	r, err := s.lab.StartReader(ctx, pod, func(start *lab.PodStart) { start.Token = token })
	if err != nil {
		return nil, err
	}
	return &sidecar{address: r.Address, stop: r.Stop}, nil
}

func (s *processes) application(context.Context, *demo, *corev1.Pod) error { return nil }

func (s *processes) podOf(_ context.Context, d *demo, _ broken) (*corev1.Pod, error) {
	return d.access.pod, nil
}

func (s *processes) broken(d *demo) []broken {
	a := d.access
	return []broken{
		{"The token of another ServiceAccount", func(ctx context.Context) (string, error) {
			other := otherAccountsPod()
			if err := s.lab.Client.Create(ctx, other); err != nil {
				return "", err
			}
			return s.lab.Token(ctx, other, a.policy.Audience, 600)
		}, nil, diagnosis.WrongSubject, "a wrong subject is refused by STS and named by the reader"},
		{"A token for another audience", func(ctx context.Context) (string, error) {
			return s.lab.Token(ctx, a.pod, "https://vault.example.com", 600)
		}, nil, diagnosis.WrongAudience, "a wrong audience is refused by STS and named by the reader"},
		{"An explicit Deny in the bucket's policy", nil, a.deny, diagnosis.ExplicitDenyBucketPolicy,
			"an explicit Deny is refused by S3 and named by the reader"},
	}
}
