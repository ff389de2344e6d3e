package status

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

func TestOwnersAndWhatMakesTheirPodsAnew(t *testing.T) {
	f := &Facts{}
	for name, test := range map[string]struct {
		kind, name     string
		labels         map[string]string
		owner, command string
	}{
		"a Deployment":         {"ReplicaSet", "api-6d5f7", map[string]string{"pod-template-hash": "6d5f7"}, "deployment/api", "kubectl -n ns rollout restart deployment/api"},
		"a ReplicaSet":         {"ReplicaSet", "api-6d5f7", nil, "replicaset/api-6d5f7", "kubectl -n ns delete pod pod-1 pod-2"},
		"a StatefulSet":        {"StatefulSet", "db", nil, "statefulset/db", "kubectl -n ns rollout restart statefulset/db"},
		"a Job":                {"Job", "nightly", nil, "job/nightly", "kubectl -n ns delete pod pod-1 pod-2"},
		"nobody":               {"", "", nil, "pod/pod-1", "kubectl -n ns get pod pod-1 -o json > pod-1.json && kubectl replace --force -f pod-1.json"},
		"a name without hash":  {"ReplicaSet", "api", map[string]string{"pod-template-hash": "6d5f7"}, "replicaset/api", "kubectl -n ns delete pod pod-1 pod-2"},
		"an operator's object": {"Cluster", "pg", nil, "cluster/pg", "kubectl -n ns delete pod pod-1 pod-2"},
	} {
		o := owner(test.kind, test.name, "pod-1", test.labels)
		mend := f.anew([]*Pod{{Namespace: "ns", Name: "pod-1", Owner: o}, {Namespace: "ns", Name: "pod-2", Owner: o}})
		if o.String() != test.owner || mend.Command != test.command || mend.Fix == "" {
			t.Errorf("%s: %s: %+v", name, o, mend)
		}
	}
}

// TestJudge goes through what a Pod can be.
func TestJudge(t *testing.T) {
	document := "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: ns, serviceAccount: api-sa}]\n"
	f := &Facts{
		Policies: policy.Build([]policy.ConfigMap{{Name: "p", UID: "1", Data: map[string]string{"orders": document, "other": document}}}, nil, nil),
		Excluded: []string{"kube-system"}, Accounts: map[types.NamespacedName]inject.ServiceAccountView{}, Namespaces: map[string]decide.Label{},
	}
	entry, _ := f.Policies.Lookup("orders")
	set := func(value string) decide.Label { return decide.Label{Value: value, Set: true} }
	for name, test := range map[string]struct {
		pod  Pod
		want Kind
	}{
		"nobody asked":               {Pod{ServiceAccount: "api-sa"}, None},
		"injected and current":       {Pod{ServiceAccount: "api-sa", OnPod: set("orders"), Injected: set("orders"), Hash: entry.Policy.Hash}, Current},
		"an older hash":              {Pod{ServiceAccount: "api-sa", OnPod: set("orders"), Injected: set("orders"), Hash: "old"}, Outdated},
		"the label is another now":   {Pod{ServiceAccount: "api-sa", OnPod: set("other"), Injected: set("orders"), Hash: entry.Policy.Hash}, Outdated},
		"the policy is gone":         {Pod{ServiceAccount: "api-sa", Injected: set("deleted"), Hash: "x"}, Revoked},
		"the subject is gone":        {Pod{ServiceAccount: "former", OnPod: set("orders"), Injected: set("orders"), Hash: entry.Policy.Hash}, Revoked},
		"asked and not injected":     {Pod{ServiceAccount: "api-sa", OnPod: set("orders")}, Uninjected},
		"asked and not listed":       {Pod{ServiceAccount: "former", OnPod: set("orders")}, Conflict},
		"declined":                   {Pod{ServiceAccount: "api-sa", OnPod: set("none")}, None},
		"a static Pod":               {Pod{ServiceAccount: "api-sa", OnPod: set("orders"), MirrorPod: true}, None},
		"an excluded namespace":      {Pod{Namespace: "kube-system", ServiceAccount: "api-sa", OnPod: set("orders")}, None},
		"injected, the label is off": {Pod{ServiceAccount: "api-sa", Injected: set("orders"), Hash: entry.Policy.Hash}, Current},
	} {
		if test.pod.Namespace == "" {
			test.pod.Namespace = "ns"
		}
		if got, _, verdict := f.Judge(&test.pod); got != test.want {
			t.Errorf("%s: %q (%s), want %q", name, got, verdict.Reason, test.want)
		}
	}
}
