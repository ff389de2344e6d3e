package pods

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	policyLabel      = "bucket-access.io/policy"
	readerAnnotation = "bucket-access.io/reader"
	readerContainer  = "bucket-access-reader"
)

// template is a Pod whose one container, app, reads the object and then waits. It passes
// the Pod Security level restricted.
func template(edits ...func(*corev1.PodTemplateSpec)) corev1.PodTemplateSpec {
	p := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "reader", TerminationGracePeriodSeconds: ptr.To(int64(1)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To(int64(65534)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{app("app", "-hold", "-retry=20s", c.Bucket.Key)},
		},
	}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

// app is a container of the tests' application.
func app(name string, args ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: c.Images.App, Args: args,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
}

func labelled(key, value string) func(*corev1.PodTemplateSpec) {
	return func(p *corev1.PodTemplateSpec) { p.Labels[key] = value }
}

func annotated(key, value string) func(*corev1.PodTemplateSpec) {
	return func(p *corev1.PodTemplateSpec) { p.Annotations[key] = value }
}

func account(name string) func(*corev1.PodTemplateSpec) {
	return func(p *corev1.PodTemplateSpec) { p.Spec.ServiceAccountName = name }
}

// pod is a template as a Pod.
func pod(namespace, name string, edits ...func(*corev1.PodTemplateSpec)) *corev1.Pod {
	p := template(edits...)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: p.Labels, Annotations: p.Annotations}, Spec: p.Spec,
	}
}

// line is what the tests' application prints of one reading; see e2e/images/app.
type line struct {
	Key, Body, Error string
	At               time.Time
}

// lines are what a container has printed so far.
func lines(tb testing.TB, namespace, name, container string) (all []line, wrong string) {
	tb.Helper()
	stdout, stderr, err := c.Kubectl(testContext(tb), "", "-n", namespace, "logs", name, "-c", container)
	if err != nil {
		return nil, strings.TrimSpace(stderr)
	}
	for row := range strings.Lines(stdout) {
		var l line
		if err := json.Unmarshal([]byte(row), &l); err != nil {
			return nil, fmt.Sprintf("%s printed %q", container, row)
		}
		all = append(all, l)
	}
	return all, ""
}

// wantRead waits until a container has read the object.
func wantRead(tb testing.TB, namespace, name, container string) {
	tb.Helper()
	within(tb, 90*time.Second, fmt.Sprintf("%s/%s: %s reads the object", namespace, name, container), func() string {
		all, wrong := lines(tb, namespace, name, container)
		switch {
		case wrong != "":
			return wrong + state(tb, namespace, name)
		case len(all) == 0:
			return "it has printed nothing" + state(tb, namespace, name)
		case all[0].Body != c.Bucket.Content:
			return fmt.Sprintf("it read %q: %s", all[0].Body, all[0].Error)
		}
		return ""
	})
}

// state is why a Pod's containers do not run, for a failure's message.
func state(tb testing.TB, namespace, name string) string {
	tb.Helper()
	var p corev1.Pod
	if err := c.Client.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, &p); err != nil {
		return "; " + err.Error()
	}
	said := "; the Pod is " + string(p.Status.Phase)
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if s.State.Waiting != nil {
			said += fmt.Sprintf(", %s waits: %s %s", s.Name, s.State.Waiting.Reason, s.State.Waiting.Message)
		}
		if s.State.Terminated != nil {
			said += fmt.Sprintf(", %s ended: %s %s", s.Name, s.State.Terminated.Reason, s.State.Terminated.Message)
		}
	}
	for _, condition := range p.Status.Conditions {
		if condition.Status == corev1.ConditionFalse && condition.Message != "" {
			said += ", " + condition.Message
		}
	}
	return said
}

// wantNoRestart fails where the reader was ever started anew.
func wantNoRestart(tb testing.TB, namespace, name string) {
	tb.Helper()
	var p corev1.Pod
	must(tb, c.Client.Get(testContext(tb), client.ObjectKey{Namespace: namespace, Name: name}, &p))
	found := false
	for _, s := range p.Status.InitContainerStatuses {
		if s.Name == readerContainer {
			found = true
			if s.RestartCount > 0 {
				tb.Errorf("%s/%s: the reader was restarted %d times", namespace, name, s.RestartCount)
			}
		}
	}
	if !found {
		tb.Errorf("%s/%s has no reader", namespace, name)
	}
}

// injectedWith is the policy that a Pod was injected with, "" when it was not.
func injectedWith(p *corev1.Pod) string {
	volume := slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "aws-iam-token" })
	if !volume {
		return ""
	}
	return p.Labels["bucket-access.io/injected"]
}
