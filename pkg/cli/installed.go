package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/installation"
)

// shared are the flags that the webhook has, too.
var shared = []string{"cluster-region", "eks-audience", "reader-image", "reader-cpu-request", "reader-memory-request", "reader-memory-limit"}

// settle takes from the cluster how the webhook is installed, where no flag says it: which
// namespaces the API server does not ask it about, and the flags that it runs with. What
// can't be read is said, with what is assumed instead.
func (o *renderOptions) settle(ctx context.Context, e *environment, reader client.Reader, flags *pflag.FlagSet) {
	assume := func(err error, what, assumed string) {
		fmt.Fprintf(e.ErrOut, "%s%s can't be read (%s): assumed is %s; flags say it otherwise\n",
			e.terminal(e.ErrOut).mark(warn), what, oneLine(err.Error()), assumed)
	}
	if !flags.Changed("exclude-namespaces") {
		excluded, err := excludedNamespaces(ctx, reader)
		if err == nil {
			o.excluded = excluded
		} else {
			assume(err, "mutatingwebhookconfiguration "+installation.Service, "--exclude-namespaces="+strings.Join(o.excluded, ","))
		}
	}
	var open []string
	for _, name := range shared {
		if !flags.Changed(name) {
			open = append(open, name)
		}
	}
	if len(open) == 0 {
		return
	}
	var deployment appsv1.Deployment
	if err := reader.Get(ctx, client.ObjectKey{Namespace: o.policies.namespace, Name: installation.Service}, &deployment); err != nil {
		var assumed []string
		for _, name := range open {
			assumed = append(assumed, "--"+name+"="+flags.Lookup(name).Value.String())
		}
		assume(err, "deployment "+o.policies.namespace+"/"+installation.Service, strings.Join(assumed, " "))
		return
	}
	o.imageKnown = true
	runs := flagsOf(deployment.Spec.Template.Spec.Containers)
	for _, name := range open {
		if value, ok := runs[name]; ok && value != "" && flags.Set(name, value) != nil {
			assume(fmt.Errorf("--%s is %q", name, value), "a flag of the webhook", flags.Lookup(name).Value.String())
		}
	}
}

// excludedNamespaces are those that the entry for labelled Pods does not select.
func excludedNamespaces(ctx context.Context, reader client.Reader) ([]string, error) {
	var found admissionv1.MutatingWebhookConfiguration
	if err := reader.Get(ctx, client.ObjectKey{Name: installation.Service}, &found); err != nil {
		return nil, err
	}
	for i := range found.Webhooks {
		entry := &found.Webhooks[i]
		if entry.Name != string(admission.Pods)+"."+v1alpha1.Group {
			continue
		}
		excluded := []string{}
		if entry.NamespaceSelector != nil {
			for _, requirement := range entry.NamespaceSelector.MatchExpressions {
				if requirement.Key == corev1.LabelMetadataName && requirement.Operator == metav1.LabelSelectorOpNotIn {
					excluded = append(excluded, requirement.Values...)
				}
			}
		}
		return excluded, nil
	}
	return nil, errors.New("it has no entry for Pods")
}

// flagsOf reads the command lines of containers, by the names of flags; the last counts.
func flagsOf(containers []corev1.Container) map[string]string {
	all := map[string]string{}
	for i := range containers {
		line := slices.Concat(containers[i].Command, containers[i].Args)
		for at, word := range line {
			name := strings.TrimLeft(word, "-")
			if name == word {
				continue
			}
			name, value, joined := strings.Cut(name, "=")
			if !joined && at+1 < len(line) {
				value = line[at+1]
			}
			all[name] = value
		}
	}
	return all
}
