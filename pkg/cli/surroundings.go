package cli

import (
	"context"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// surroundings answer what the webhook asks of a cluster: what the manifests say, then
// what the flags say, then, with --from-cluster, a cluster.
type surroundings struct {
	facts      decide.Cluster
	accounts   map[string]inject.ServiceAccountView // by namespace/name
	namespaces map[string]decide.Label
	label      decide.Label      // of Namespaces that no manifest describes
	labelled   bool              // by a flag
	behind     admission.Cluster // nil offline
}

// Facts is of admission.Cluster.
func (s *surroundings) Facts() decide.Cluster { return s.facts }

// NamespaceLabel is of admission.Cluster.
func (s *surroundings) NamespaceLabel(ctx context.Context, name string) (decide.Label, bool, error) {
	if label, ok := s.namespaces[name]; ok {
		return label, true, nil
	}
	if s.behind == nil || s.labelled {
		return s.label, true, nil
	}
	return s.behind.LiveNamespaceLabel(ctx, name)
}

// LiveNamespaceLabel is of admission.Cluster.
func (s *surroundings) LiveNamespaceLabel(ctx context.Context, name string) (decide.Label, bool, error) {
	return s.NamespaceLabel(ctx, name)
}

// ServiceAccount is of admission.Cluster.
func (s *surroundings) ServiceAccount(ctx context.Context, namespace, name string) (inject.ServiceAccountView, bool, error) {
	if account, ok := s.accounts[namespace+"/"+name]; ok || s.behind == nil {
		account.Namespace, account.Name = namespace, name
		return account, true, nil
	}
	return s.behind.LiveServiceAccount(ctx, namespace, name)
}

// LiveServiceAccount is of admission.Cluster.
func (s *surroundings) LiveServiceAccount(ctx context.Context, namespace, name string) (inject.ServiceAccountView, bool, error) {
	return s.ServiceAccount(ctx, namespace, name)
}

// PodsWithout is none: files say nothing of what runs.
func (*surroundings) PodsWithout(context.Context, string, string, string) (pods int, more bool, err error) {
	return 0, false, nil
}

// add takes a Namespace or a ServiceAccount of the manifests into account.
func (s *surroundings) add(o *object, namespace string) {
	label := decide.LabelOf(o.Metadata.Labels, v1alpha1.LabelPolicy)
	switch {
	case o.APIVersion != "v1":
	case o.Kind == "Namespace":
		s.namespaces[o.Metadata.Name] = label
	case o.Kind == "ServiceAccount":
		s.accounts[namespace+"/"+o.Metadata.Name] = inject.ServiceAccountView{
			Policy: label, HasAnnotations: o.Metadata.Annotations != nil, Annotations: o.Metadata.Annotations,
		}
	}
}

// ask is a cluster behind the manifests.
func (s *surroundings) ask(ctx context.Context, e *environment) (client.Reader, error) {
	reader, clients, err := e.cluster()
	if err != nil {
		return nil, err
	}
	bounds := watch.LiveReads{PerSecond: 10_000, Waiting: 10_000} // the client's own limit counts
	s.behind = watch.NewCluster(watch.NewAccountIndex(), watch.NewNamespaceIndex(), reader, bounds, metrics.New(prometheus.NewRegistry()), decide.Cluster{})
	if s.facts.Issuer == "" {
		if s.facts.Issuer, err = watch.ReadIssuer(ctx, clients.CoreV1().RESTClient()); err != nil {
			return nil, err
		}
	}
	return reader, nil
}

// snapshot is a source of policies that never change.
type snapshot struct{ in *policy.Snapshot }

// Snapshot is of admission.PolicySource.
func (s snapshot) Snapshot() *policy.Snapshot { return s.in }

// Live is of admission.PolicySource.
func (snapshot) Live(context.Context, string) (*policy.Snapshot, error) {
	return nil, nil //nolint:nilnil // there is no younger one, as admission.PolicySource has it
}

// labelOf reads the policy's label of "key=value" pairs.
func labelOf(pairs map[string]string) decide.Label {
	clean := map[string]string{}
	for key, value := range pairs {
		clean[strings.TrimSpace(key)] = value
	}
	return decide.LabelOf(clean, v1alpha1.LabelPolicy)
}
