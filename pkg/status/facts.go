package status

import (
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Facts are what is known of a cluster, or of one of its namespaces.
type Facts struct {
	Policies   *policy.Snapshot
	Cluster    decide.Cluster
	Excluded   []string // namespaces that the webhook leaves alone
	Namespaces map[string]decide.Label
	Accounts   map[types.NamespacedName]inject.ServiceAccountView
	Pods       []Pod
	// Unread says what could not be read, and which right is missing.
	Unread []string
	// Kubectl makes the commands that mend.
	Kubectl Kubectl
}

// Pod is what is kept of a Pod: a cluster may have many.
type Pod struct {
	Namespace, Name, ServiceAccount string
	Owner                           Owner
	MirrorPod                       bool
	OnPod, Injected                 decide.Label
	Debugged                        bool   // kubectl debug has added containers
	Hash                            string // of what was injected
	Carried                         Carried
}

// Owner is what a person changes or restarts in order to get other Pods.
type Owner struct {
	Kind string `json:"kind"` // as kubectl takes it: deployment, statefulset, pod, …
	Name string `json:"name"`
}

func (o Owner) String() string { return o.Kind + "/" + o.Name }

const podKind = "pod"

// templateHash is the label whose value a Deployment's ReplicaSet has at the end of its name.
const templateHash = "pod-template-hash"

// owner looks through a ReplicaSet at its Deployment, without asking for either.
func owner(kind, name, pod string, labels map[string]string) Owner {
	if kind == "" {
		return Owner{podKind, pod}
	}
	if deployment, cut := strings.CutSuffix(name, "-"+labels[templateHash]); kind == "ReplicaSet" && labels[templateHash] != "" && cut {
		return Owner{"deployment", deployment}
	}
	return Owner{strings.ToLower(kind), name}
}

// request is what decides about a Pod.
func (f *Facts) request(p *Pod) decide.PodRequest {
	account := f.Accounts[types.NamespacedName{Namespace: p.Namespace, Name: p.ServiceAccount}]
	return decide.PodRequest{
		Namespace: p.Namespace, ServiceAccount: p.ServiceAccount, MirrorPod: p.MirrorPod,
		OnPod: p.OnPod, OnServiceAccount: account.Policy, OnNamespace: f.Namespaces[p.Namespace],
	}
}
