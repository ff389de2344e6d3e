package admission

import (
	"context"
	"fmt"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Cluster answers what the entries ask of the cluster. The cached answers are
// quick and may be a moment old; the live ones ask the API server and are used
// only where a cached one disagrees with what the API server saw.
type Cluster interface {
	Facts() decide.Cluster
	// NamespaceLabel is the policy label of a Namespace; found is whether it is known.
	NamespaceLabel(ctx context.Context, name string) (label decide.Label, found bool, err error)
	LiveNamespaceLabel(ctx context.Context, name string) (label decide.Label, found bool, err error)
	ServiceAccount(ctx context.Context, namespace, name string) (account inject.ServiceAccountView, found bool, err error)
	LiveServiceAccount(ctx context.Context, namespace, name string) (account inject.ServiceAccountView, found bool, err error)
	// PodsWithout counts the Pods of a ServiceAccount that run, ask for nothing themselves and are
	// not injected with the policy; without a ServiceAccount, all such Pods of the Namespace that
	// none speaks for. more is whether there are further ones. It asks the API server.
	PodsWithout(ctx context.Context, namespace, serviceAccount, policy string) (pods int, more bool, err error)
}

// PolicySource gives the snapshot in force (nil before the first), and a younger one
// that is read from the API server just now; nil when there is none in which the named
// policy may be another.
type PolicySource interface {
	Snapshot() *policy.Snapshot
	Live(ctx context.Context, name string) (*policy.Snapshot, error)
}

// Service answers reviews.
type Service struct {
	Cluster  Cluster
	Policies PolicySource
	// Namespace is the webhook's own, where policies are.
	Namespace string
	// EKSAudience is the default audience of EKS's own webhook.
	EKSAudience string
	// Reader is the demo reader's image and resources.
	Reader inject.ReaderSettings
}

// answer is what is said to the API server.
type answer struct {
	decide.Verdict
	operations []patch.Operation
	warnings   []inject.Warning
	subject    string // for the log: the ServiceAccount of the request
}

// requestTarget is a target that can answer for what it has read.
type requestTarget interface {
	target
	// expects says whether the request is of the resource and operation that the
	// entry serves.
	expects(rev *review) bool
	answer(ctx context.Context, rev *review) answer
}

// target makes what an entry reads a request into.
func (s *Service) target(entry Entry) requestTarget {
	switch entry {
	case Pods, NamespacedPods, ServiceAccountPods:
		return &podTarget{service: s, entry: entry}
	case EphemeralContainers:
		return &debugTarget{service: s}
	case ServiceAccounts:
		return &accountTarget{service: s}
	case Policies:
		return &policiesTarget{service: s}
	case Workloads, NamespacedWorkloads:
		return &workloadTarget{service: s, entry: entry}
	case Namespaces:
		return &namespaceTarget{service: s}
	}
	panic(fmt.Sprintf("admission: no target for entry %q", entry))
}

// decide judges by the snapshot in force, and a second time by one that was read
// just now where the first refuses for what the policy says: a policy that was
// applied together with the Pod, or a subject added to it, may be on its way still. Where
// there is no younger one, the one in force may have become that since the first judgement.
func (s *Service) decide(ctx context.Context, judge func(*policy.Snapshot) decide.Verdict) (decide.Verdict, error) {
	judged := s.Policies.Snapshot()
	verdict := judge(judged)
	switch verdict.Reason {
	case decide.ReasonUnknownPolicy, decide.ReasonInvalidPolicy, decide.ReasonSubjectNotListed, decide.ReasonIssuerMismatch:
	default:
		return verdict, nil
	}
	younger, err := s.Policies.Live(ctx, verdict.PolicyName)
	if err != nil {
		return verdict, err
	}
	if younger == nil {
		younger = s.Policies.Snapshot()
	}
	if younger == judged {
		return verdict, nil
	}
	return judge(younger), nil
}

// unread says what could not be read.
func unread(what string, err error) error { return fmt.Errorf("could not read %s: %w", what, err) }

func failed(err error) answer {
	return answer{Verdict: decide.Verdict{
		Kind: decide.Error, Reason: decide.ReasonLookupFailed, Message: fmt.Sprintf("bucket-access: %v; try again", err),
	}}
}
