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
	outcome, err := t.service.judge(ctx, t.entry, &t.pod)
	if err != nil {
		return failed(err)
	}
	return answer{
		Verdict: outcome.Verdict, operations: outcome.Plan.Operations(&t.pod), warnings: outcome.Warnings, subject: t.pod.ServiceAccount,
	}
}

// judge works out what happens to a Pod, or to those of a template.
func (s *Service) judge(ctx context.Context, entry Entry, pod *inject.PodView) (inject.Outcome, error) {
	if pod.ServiceAccount == "" {
		pod.ServiceAccount = "default"
	}
	request := decide.PodRequest{
		Namespace: pod.Namespace, ServiceAccount: pod.ServiceAccount, MirrorPod: pod.MirrorPod, OnPod: pod.Policy,
	}
	around := inject.Surroundings{Cluster: s.Cluster.Facts(), EKSAudience: s.EKSAudience, Reader: s.Reader}
	if needsAccount(request) {
		account, err := s.account(ctx, pod)
		if err != nil {
			return inject.Outcome{}, unread("the Pod's ServiceAccount", err)
		}
		around.ServiceAccount, request.OnServiceAccount = account, account.Policy
		if !request.OnPod.Set && !request.OnServiceAccount.Set {
			if request.OnNamespace, err = s.namespace(ctx, entry, pod.Namespace); err != nil {
				return inject.Outcome{}, unread("the Pod's Namespace", err)
			}
		}
	}
	verdict, err := s.decide(ctx, func(snapshot *policy.Snapshot) decide.Verdict {
		return decide.Pod(request, snapshot, around.Cluster)
	})
	if err != nil {
		return inject.Outcome{}, unread("the policies", err)
	}
	return inject.Pod(pod, verdict, around), nil
}

// needsAccount: a mirror Pod and one that opts out are skipped whatever stands above.
func needsAccount(request decide.PodRequest) bool {
	return !request.MirrorPod && request.OnPod != decide.Label{Value: v1alpha1.PolicyNone, Set: true}
}

// account reads the Pod's ServiceAccount. The API server puts a mark on a Pod of a
// labelled ServiceAccount; a mark that the cache does not confirm is looked into.
func (s *Service) account(ctx context.Context, pod *inject.PodView) (inject.ServiceAccountView, error) {
	account, found, err := s.Cluster.ServiceAccount(ctx, pod.Namespace, pod.ServiceAccount)
	if err == nil && found && (!pod.Mark.Set || pod.Mark == account.Policy) {
		return account, nil
	}
	account, _, err = s.Cluster.LiveServiceAccount(ctx, pod.Namespace, pod.ServiceAccount)
	return account, err
}

// namespace reads the label of the Pod's Namespace, live where the entry was called
// for a label that the cache does not have yet.
func (s *Service) namespace(ctx context.Context, entry Entry, name string) (decide.Label, error) {
	label, found, err := s.Cluster.NamespaceLabel(ctx, name)
	if err == nil && found && (label.Set || entry != NamespacedPods && entry != NamespacedWorkloads) {
		return label, nil
	}
	label, _, err = s.Cluster.LiveNamespaceLabel(ctx, name)
	return label, err
}
