package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/reader"
)

// Document is a policy for a bucket and a role of Account B; more are further lines. The reader is
// injected unless they say otherwise.
func (b *AccountB) Document(bucket, role, subjects string, more ...string) string {
	if !strings.Contains(strings.Join(more, "\n"), "reader:") {
		more = append(more, "reader: {inject: true}")
	}
	return "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: " + bucket + "\nregion: " + AccountBRegion +
		"\nroleARN: arn:aws:iam::" + AccountBID + ":role/" + role + "\nsubjects: [" + subjects + "]\nendpoints: {s3: '" + b.S3URL + "', sts: '" + b.STSURL +
		"'}\n" + strings.Join(more, "\n")
}

// ApplyPolicy parses a document and makes a ConfigMap of it.
func (l *Lab) ApplyPolicy(ctx context.Context, name, document string) (*policy.Policy, error) {
	parsed, errs := policy.Parse(name, document)
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return parsed, l.Client.Create(ctx, PolicyConfigMap(name, document))
}

// PolicyConfigMap is a ConfigMap of one policy, whatever its document says.
func PolicyConfigMap(name, document string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "policy-" + name, Labels: map[string]string{"bucket-access.io/policies": "true"}},
		Data:       map[string]string{name: document},
	}
}

// ReaderProcess is the injected sidecar of a Pod as a process.
type ReaderProcess struct {
	PodProcess
	Address string // host:port
}

// StartReader starts the sidecar that the webhook has added to the Pod, on a port of its
// own: all Pods of the lab share one network.
func (l *Lab) StartReader(ctx context.Context, pod *corev1.Pod, edit func(*PodStart), flags ...string) (*ReaderProcess, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	r := &ReaderProcess{Address: address}
	r.PodProcess = PodProcess{
		Pod: pod, Container: "bucket-access-reader", Edit: edit, Extra: append([]string{"--listen=" + r.Address, "--log-level=debug"}, flags...),
	}
	return r, l.StartProcess(ctx, &r.PodProcess, "bucket-access-reader")
}

// FreeAddress is a loopback address that nobody listens on now.
func FreeAddress() (string, error) {
	const loopback = "127.0.0.1"
	ports, err := freePorts(loopback, 1)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(loopback, strconv.Itoa(ports[0])), nil
}

// Report waits for a report that is ready or failed, and returns it.
func (r *ReaderProcess) Report(ctx context.Context) (*reader.Report, error) {
	for ctx.Err() == nil {
		var report reader.Report
		if _, err := r.GetJSON(ctx, "/status", &report); err == nil && !report.CheckedAt.IsZero() {
			return &report, nil
		}
		select {
		case <-r.Done():
			return nil, fmt.Errorf("the reader ended; its log is %s", r.Log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil, ctx.Err()
}

// Get asks the reader.
func (r *ReaderProcess) Get(ctx context.Context, path string) (int, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Address+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

// GetJSON asks the reader and reads what it says as JSON.
func (r *ReaderProcess) GetJSON(ctx context.Context, path string, into any) (int, error) {
	status, body, err := r.Get(ctx, path)
	if err != nil {
		return status, err
	}
	return status, json.Unmarshal(body, into)
}
