package admission

import (
	"context"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// podTarget answers the three entries for Pod CREATE. All decide by the same
// facts; the entry only says which cached fact must not be believed unseen.
type podTarget struct {
	service *Service
	entry   Entry
	pod     inject.PodView
	exists  bool
}

func (t *podTarget) object(r *reader) (err error) {
	t.exists, err = readPod(r, &t.pod)
	return err
}

func (*podTarget) oldObject(r *reader) error { return r.skip() }

func (t *podTarget) expects(rev *review) bool {
	return t.exists && rev.resource == "pods" && rev.subResource == "" && rev.operation == "CREATE"
}

func (t *podTarget) answer(ctx context.Context, rev *review) answer {
	t.pod.Namespace = rev.namespace
	if t.pod.ServiceAccount == "" {
		t.pod.ServiceAccount = "default"
	}
	request := decide.PodRequest{
		Namespace: rev.namespace, ServiceAccount: t.pod.ServiceAccount, MirrorPod: t.pod.MirrorPod, OnPod: t.pod.Policy,
	}
	around := inject.Surroundings{Cluster: t.service.Cluster.Facts(), EKSAudience: t.service.EKSAudience, Reader: t.service.Reader}
	if needsAccount(request) {
		account, err := t.account(ctx)
		if err != nil {
			return failed(err, "the Pod's ServiceAccount")
		}
		around.ServiceAccount, request.OnServiceAccount = account, account.Policy
		if !request.OnPod.Set && !request.OnServiceAccount.Set {
			if request.OnNamespace, err = t.namespace(ctx); err != nil {
				return failed(err, "the Pod's Namespace")
			}
		}
	}
	verdict, err := t.service.decide(ctx, func(snapshot *policy.Snapshot) decide.Verdict {
		return decide.Pod(request, snapshot, around.Cluster)
	})
	if err != nil {
		return failed(err, "the policies")
	}
	outcome := inject.Pod(&t.pod, verdict, around)
	return answer{
		Verdict: outcome.Verdict, operations: outcome.Plan.Operations(&t.pod), warnings: outcome.Warnings, subject: request.ServiceAccount,
	}
}

// needsAccount: a mirror Pod and one that opts out are skipped whatever stands above.
func needsAccount(request decide.PodRequest) bool {
	return !request.MirrorPod && request.OnPod != decide.Label{Value: v1alpha1.PolicyNone, Set: true}
}

// account reads the Pod's ServiceAccount. The API server puts a mark on a Pod of a
// labelled ServiceAccount; a mark that the cache does not confirm is looked into.
func (t *podTarget) account(ctx context.Context) (inject.ServiceAccountView, error) {
	account, found, err := t.service.Cluster.ServiceAccount(ctx, t.pod.Namespace, t.pod.ServiceAccount)
	if err == nil && found && (!t.pod.Mark.Set || t.pod.Mark == account.Policy) {
		return account, nil
	}
	account, _, err = t.service.Cluster.LiveServiceAccount(ctx, t.pod.Namespace, t.pod.ServiceAccount)
	return account, err
}

// namespace reads the label of the Pod's Namespace, live where this entry was
// called for a label that the cache does not have yet.
func (t *podTarget) namespace(ctx context.Context) (decide.Label, error) {
	label, found, err := t.service.Cluster.NamespaceLabel(ctx, t.pod.Namespace)
	if err == nil && found && (t.entry != NamespacedPods || label.Set) {
		return label, nil
	}
	label, _, err = t.service.Cluster.LiveNamespaceLabel(ctx, t.pod.Namespace)
	return label, err
}
