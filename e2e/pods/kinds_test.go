package pods

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// podsOf waits for the Pods of a workload, which carry its name as a label.
func podsOf(tb testing.TB, namespace, workload string, limit time.Duration) []corev1.Pod {
	tb.Helper()
	var list corev1.PodList
	within(tb, limit, "a Pod of "+workload, func() string {
		err := c.Client.List(context.Background(), &list, client.InNamespace(namespace), client.MatchingLabels{"workload": workload})
		if err == nil && len(list.Items) == 0 {
			var events corev1.EventList
			_ = c.Client.List(context.Background(), &events, client.InNamespace(namespace))
			said := "there is none"
			for i := range events.Items {
				if strings.HasPrefix(events.Items[i].Reason, "Failed") {
					said += "; " + events.Items[i].Message
				}
			}
			return said
		}
		return text(err)
	})
	return list.Items
}

// TestEveryKindOfWorkload reads the object in a Pod of each kind that makes Pods, in a
// labelled Namespace of level restricted, beside the injected reader.
func TestEveryKindOfWorkload(t *testing.T) {
	namespace := newNamespace(t, policyLabel, "e2e")
	selected := func(name string) (metav1.ObjectMeta, *metav1.LabelSelector, func(*corev1.PodTemplateSpec)) {
		labels := map[string]string{"workload": name}
		return metav1.ObjectMeta{Namespace: namespace, Name: name}, &metav1.LabelSelector{MatchLabels: labels}, labelled("workload", name)
	}
	withReader := annotated(readerAnnotation, "true")
	once := func(p *corev1.PodTemplateSpec) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Containers[0].Args = []string{"-retry=20s", c.Bucket.Key}
	}
	job := func(name string) batchv1.JobSpec {
		_, _, mark := selected(name)
		return batchv1.JobSpec{BackoffLimit: ptr.To(int32(0)), Template: template(mark, withReader, once)}
	}
	workloads := map[string]client.Object{}
	meta, selector, mark := selected("deployment")
	workloads["deployment"] = &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(int32(2)), Selector: selector, Template: template(mark, withReader)}}
	meta, selector, mark = selected("statefulset")
	workloads["statefulset"] = &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
		ServiceName: "none", Selector: selector, Template: template(mark, withReader)}}
	meta, selector, mark = selected("daemonset")
	workloads["daemonset"] = &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template(mark, withReader)}}
	meta, _, _ = selected("job")
	workloads["job"] = &batchv1.Job{ObjectMeta: meta, Spec: job("job")}
	meta, _, _ = selected("cronjob")
	workloads["cronjob"] = &batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent, JobTemplate: batchv1.JobTemplateSpec{Spec: job("cronjob")}}}
	for _, workload := range workloads {
		must(t, c.Client.Create(testContext(t), workload))
	}
	for kind := range workloads {
		t.Run(kind, func(t *testing.T) {
			for _, p := range podsOf(t, namespace, kind, 90*time.Second) {
				wantRead(t, namespace, p.Name, "app")
				wantNoRestart(t, namespace, p.Name)
			}
		})
	}
	t.Run("Jobs end, with the reader inside", func(t *testing.T) {
		for _, name := range []string{"job", "cronjob"} {
			within(t, time.Minute, name+" completes", func() string {
				var jobs batchv1.JobList
				if err := c.Client.List(context.Background(), &jobs, client.InNamespace(namespace)); err != nil {
					return err.Error()
				}
				for i := range jobs.Items {
					if jobs.Items[i].Spec.Template.Labels["workload"] == name && jobs.Items[i].Status.Succeeded > 0 {
						return ""
					}
				}
				return fmt.Sprintf("%d Jobs, none has succeeded", len(jobs.Items))
			})
		}
	})
}

// TestInitContainersAndSidecarsRead: the object is there before the main container starts.
func TestInitContainersAndSidecarsRead(t *testing.T) {
	namespace := newNamespace(t)
	sidecar := app("sidecar", "-hold", "-retry=20s", c.Bucket.Key)
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	p := pod(namespace, "initial", labelled(policyLabel, "e2e"), func(p *corev1.PodTemplateSpec) {
		p.Spec.InitContainers = []corev1.Container{app("init", "-retry=20s", c.Bucket.Key), sidecar}
	})
	must(t, c.Client.Create(testContext(t), p))
	for _, container := range []string{"init", "sidecar", "app"} {
		wantRead(t, namespace, p.Name, container)
	}
}

// TestEveryUserReadsTheToken: the kubelet writes the token with a mode that depends on
// fsGroup and users.
func TestEveryUserReadsTheToken(t *testing.T) {
	namespace := newNamespace(t, "pod-security.kubernetes.io/enforce", "baseline")
	root := func(p *corev1.PodTemplateSpec) {
		p.Spec.SecurityContext.RunAsNonRoot, p.Spec.SecurityContext.RunAsUser = nil, ptr.To(int64(0))
	}
	variants := map[string]func(*corev1.PodTemplateSpec){
		"root":             root,
		"root-and-fsgroup": func(p *corev1.PodTemplateSpec) { root(p); p.Spec.SecurityContext.FSGroup = ptr.To(int64(2000)) },
		"non-root":         func(*corev1.PodTemplateSpec) {},
		"non-root-fsgroup": func(p *corev1.PodTemplateSpec) { p.Spec.SecurityContext.FSGroup = ptr.To(int64(2000)) },
		"group-of-its-own": func(p *corev1.PodTemplateSpec) {
			p.Spec.SecurityContext.RunAsGroup, p.Spec.SecurityContext.FSGroup = ptr.To(int64(3000)), ptr.To(int64(2000))
		},
		"user-of-the-container": func(p *corev1.PodTemplateSpec) { p.Spec.Containers[0].SecurityContext.RunAsUser = ptr.To(int64(1234)) },
		"two-users": func(p *corev1.PodTemplateSpec) {
			other := app("other", "-hold", "-retry=20s", c.Bucket.Key)
			other.SecurityContext.RunAsUser = ptr.To(int64(4321))
			p.Spec.Containers = append(p.Spec.Containers, other)
		},
		"nobody-says": func(p *corev1.PodTemplateSpec) { p.Spec.SecurityContext = nil },
	}
	for name, edit := range variants {
		must(t, c.Client.Create(testContext(t), pod(namespace, name, labelled(policyLabel, "e2e"), annotated(readerAnnotation, "true"), edit)))
	}
	for name := range variants {
		t.Run(name, func(t *testing.T) {
			wantRead(t, namespace, name, "app")
			if name == "two-users" {
				wantRead(t, namespace, name, "other")
			}
			within(t, 30*time.Second, "the reader has read", func() string { return readerSays(t, namespace, name, "OK") })
			wantNoRestart(t, namespace, name)
		})
	}
}

// TestDebugContainersRead: kubectl debug gets what the Pod's containers have.
func TestDebugContainersRead(t *testing.T) {
	namespace := newNamespace(t)
	must(t, c.Client.Create(testContext(t), pod(namespace, "debugged", labelled(policyLabel, "e2e"))))
	wantRead(t, namespace, "debugged", "app")
	kubectl(t, "-n", namespace, "debug", "debugged", "--image="+c.Images.App, "--container=debugger", "--profile=restricted", "--arguments-only",
		"--", "-retry=20s", c.Bucket.Key)
	wantRead(t, namespace, "debugged", "debugger")
}
