package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// installedAs is a cluster's part of the webhook's installation; nil can't be read.
type installedAs struct {
	client.Reader

	args     []string
	excluded []string
}

var errForbidden = errors.New("forbidden\x1b")

func (i *installedAs) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch object := into.(type) {
	case *appsv1.Deployment:
		if i.args == nil {
			return errForbidden
		}
		object.Spec.Template.Spec.Containers = []corev1.Container{{Args: i.args}}
	case *admissionv1.MutatingWebhookConfiguration:
		if i.excluded == nil {
			return errForbidden
		}
		selector := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: i.excluded},
		}}
		object.Webhooks = []admissionv1.MutatingWebhook{{Name: "namespaced-pods.bucket-access.io"}, {Name: "pods.bucket-access.io", NamespaceSelector: selector}}
	}
	return nil
}

// TestSettle: the installation fills in what no flag says, and what can't be read is said.
func TestSettle(t *testing.T) {
	args := []string{"--reader-image=here:v1", "--eks-audience", "there", "-cluster-region=eu-west-3", "--reader-image=reader:v2", "--port=1", "--reader-cpu-request=$x"}
	for name, test := range map[string]struct {
		cluster  installedAs
		flags    []string
		excluded []string
		want     [3]string // image, audience, region
		said     []string
	}{
		"all is read": {installedAs{args: args, excluded: []string{"own", "a"}}, nil, []string{"own", "a"}, [3]string{"reader:v2", "there", "eu-west-3"}, nil},
		"flags count first": {
			installedAs{args: args, excluded: []string{"own"}}, []string{"--reader-image=", "--cluster-region=x", "--exclude-namespaces=b"},
			[]string{"b"}, [3]string{"", "there", "x"}, nil,
		},
		"nothing is read": {
			installedAs{}, []string{"--eks-audience=mine"}, []string{"kube-system", "kube-node-lease"}, [3]string{"", "mine", ""},
			[]string{
				`warning: mutatingwebhookconfiguration bucket-access-webhook can't be read (forbidden\x1b): assumed is --exclude-namespaces=kube-system,kube-node-lease;`,
				"warning: deployment bucket-access-system/bucket-access-webhook can't be read", "assumed is --cluster-region= --reader-image= ",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			streams, _, _, errs := genericiooptions.NewTestIOStreams()
			e := &environment{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true), terminal: terminalOf}
			o := &renderOptions{}
			command := o.command(e)
			if err := command.ParseFlags(test.flags); err != nil {
				t.Fatal(err)
			}
			o.settle(t.Context(), e, &test.cluster, command.Flags())
			if got := [3]string{o.image, o.eksAudience, o.region}; got != test.want || !slices.Equal(o.excluded, test.excluded) || o.cpu != "$x" && test.cluster.args != nil {
				t.Errorf("%v, %v, %s", got, o.excluded, o.cpu)
			}
			for _, said := range test.said {
				if !strings.Contains(errs.String(), said) {
					t.Errorf("%q lacks %q", errs, said)
				}
			}
			if len(test.said) == 0 && errs.Len() > 0 {
				t.Error(errs)
			}
		})
	}
}
