package decide

import (
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

func document(extra string, subjects ...string) string {
	return "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects:\n- " + strings.Join(subjects, "\n- ") + "\n" + extra
}

func policies() *policy.Snapshot {
	return policy.Build([]policy.ConfigMap{{Name: "p", UID: "1", Data: map[string]string{
		"orders": document("", "{namespace: default, serviceAccount: api-sa}", "{namespace: default, serviceAccount: worker}",
			"{namespace: payments, serviceAccount: ledger-of-another-team}"),
		"elsewhere": document("issuer: https://another-cluster.example.com\n", "{namespace: default, serviceAccount: api-sa}"),
		"broken":    "bucket: 5",
	}}}, nil, nil)
}

func set(value string) Label { return Label{Value: value, Set: true} }

func TestPod(t *testing.T) {
	base := PodRequest{Namespace: "default", ServiceAccount: "api-sa"}
	with := func(edit func(*PodRequest)) PodRequest { r := base; edit(&r); return r }
	for name, test := range map[string]struct {
		request    PodRequest
		wantKind   Kind
		wantReason Reason
		wantSource Source
		want       []string
	}{
		"nobody asked":  {base, Skip, ReasonNotRequested, "", nil},
		"the Pod asked": {with(func(r *PodRequest) { r.OnPod = set("orders") }), Inject, ReasonInjected, FromPod, nil},
		"the Pod counts before the ServiceAccount":             {with(func(r *PodRequest) { r.OnPod, r.OnServiceAccount = set("orders"), set("x") }), Inject, ReasonInjected, FromPod, nil},
		"the ServiceAccount counts before the Namespace":       {with(func(r *PodRequest) { r.OnServiceAccount, r.OnNamespace = set("orders"), set("x") }), Inject, ReasonInjected, FromServiceAccount, nil},
		"the Namespace asked":                                  {with(func(r *PodRequest) { r.OnNamespace = set("orders") }), Inject, ReasonInjected, FromNamespace, nil},
		"none on the Pod opts out of the Namespace":            {with(func(r *PodRequest) { r.OnPod, r.OnNamespace = set("none"), set("orders") }), Skip, ReasonOptedOut, FromPod, nil},
		"none on the ServiceAccount opts out of the Namespace": {with(func(r *PodRequest) { r.OnServiceAccount, r.OnNamespace = set("none"), set("orders") }), Skip, ReasonOptedOut, FromServiceAccount, nil},
		"a mirror Pod is always skipped":                       {with(func(r *PodRequest) { r.OnPod, r.MirrorPod = set("unknown"), true }), Skip, ReasonMirrorPod, "", nil},
		"an empty label names an unknown policy":               {with(func(r *PodRequest) { r.OnPod = set("") }), Deny, ReasonUnknownPolicy, FromPod, []string{`policy ""`}},
		"an unknown policy, asked for by the Pod":              {with(func(r *PodRequest) { r.OnPod = set("ordres") }), Deny, ReasonUnknownPolicy, FromPod, []string{"label bucket-access.io/policy on the Pod", `"ordres"`, "correct the label"}},
		"an unknown policy, implied by the Namespace":          {with(func(r *PodRequest) { r.OnNamespace = set("ordres") }), Skip, ReasonUnknownPolicy, FromNamespace, []string{"goes through without bucket access"}},
		"an invalid policy":                                    {with(func(r *PodRequest) { r.OnServiceAccount = set("broken") }), Deny, ReasonInvalidPolicy, FromServiceAccount, []string{"no earlier valid version"}},
		"a ServiceAccount that is not listed": {with(func(r *PodRequest) { r.OnPod, r.ServiceAccount = set("orders"), "default" }), Deny, ReasonSubjectNotListed, FromPod,
			[]string{"system:serviceaccount:default:default", "it lists api-sa, worker", "(and 1 others elsewhere)", "serviceAccountName", "{namespace: default, serviceAccount: default}"}},
		"a namespace that is not listed": {with(func(r *PodRequest) { r.OnPod, r.Namespace = set("orders"), "other" }), Deny, ReasonSubjectNotListed, FromPod,
			[]string{`of namespace "other" it lists none`, "(and 3 others elsewhere)"}},
		"not listed, implied":      {with(func(r *PodRequest) { r.OnNamespace, r.ServiceAccount = set("orders"), "default" }), Skip, ReasonSubjectNotListed, FromNamespace, nil},
		"another cluster's policy": {with(func(r *PodRequest) { r.OnPod = set("elsewhere") }), Deny, ReasonIssuerMismatch, FromPod, []string{"https://this.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Pod(test.request, policies(), Cluster{Issuer: "https://this.example.com"})
			if got.Kind != test.wantKind || got.Reason != test.wantReason || got.Source != test.wantSource {
				t.Fatalf("got %s %s from %q: %s", got.Kind, got.Reason, got.Source, got.Message)
			}
			for _, want := range test.want {
				if !strings.Contains(got.Message, want) {
					t.Errorf("%q is not in the sentence: %s", want, got.Message)
				}
			}
			for _, secret := range []string{"ledger", "payments", "222222222222", "another-cluster"} {
				if strings.Contains(got.Message, secret) {
					t.Errorf("the sentence gives away %q: %s", secret, got.Message)
				}
			}
			if (got.Kind == Inject) != (got.Policy != nil) {
				t.Errorf("policy %v with verdict %s", got.Policy, got.Kind)
			}
		})
	}
}

func TestAnIssuerThatIsNotKnownJudgesNothing(t *testing.T) {
	if got := Pod(PodRequest{Namespace: "default", ServiceAccount: "api-sa", OnPod: set("elsewhere")}, policies(), Cluster{}); got.Kind != Inject {
		t.Fatalf("got %s %s", got.Kind, got.Reason)
	}
}

func TestReasonsAreAClosedSet(t *testing.T) {
	seen := map[Reason]bool{}
	for _, reason := range Reasons() {
		if seen[reason] || reason == "" {
			t.Errorf("%q stands twice or is empty", reason)
		}
		seen[reason] = true
	}
}
