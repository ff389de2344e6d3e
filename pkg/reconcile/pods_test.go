package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// relist tells an index of all there is.
func relist(index watch.Index, objects ...*metav1.PartialObjectMetadata) {
	put, take := index.Anew()
	for _, object := range objects {
		put(object)
	}
	take()
}

// labels are indexes of Namespaces, and of ServiceAccounts by Namespace and name, with their labels.
func labels(namespaces map[string]string, accounts map[[2]string]string) (*watch.NamespaceIndex, *watch.AccountIndex) {
	object := func(namespace, name, label string) *metav1.PartialObjectMetadata {
		object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if label != "" {
			object.Labels = map[string]string{"bucket-access.io/policy": label}
		}
		return object
	}
	var first, second []*metav1.PartialObjectMetadata
	for name, label := range namespaces {
		first = append(first, object("", name, label))
	}
	for key, label := range accounts {
		second = append(second, object(key[0], key[1], label))
	}
	above, beside := watch.NewNamespaceIndex(), watch.NewAccountIndex()
	relist(above, first...)
	relist(beside, second...)
	return above, beside
}

type policies struct{ snapshot *policy.Snapshot }

func (p policies) Lookup(name string) (*policy.Entry, bool) { return p.snapshot.Lookup(name) }
func (p policies) Snapshot() *policy.Snapshot               { return p.snapshot }
func (policies) Ready() bool                                { return true }
func (policies) Subscribe(func(changed []string))           {}

const document = `
apiVersion: bucket-access.io/v1alpha1
kind: BucketAccessPolicy
bucket: orders-data
region: eu-west-1
roleARN: arn:aws:iam::222222222222:role/s3-reader-role
subjects: [{namespace: shop, serviceAccount: api-sa}, {namespace: shop, serviceAccount: second}]
`

// running is one Pod; an empty policy was not injected.
type running struct {
	namespace, name, policy, hash, account, asks string
	source                                       decide.Source
	marked                                       bool
}

func (r running) object() *metav1.PartialObjectMetadata {
	pod := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: r.name, Labels: map[string]string{}, Annotations: map[string]string{}}}
	if r.asks != "" {
		pod.Labels["bucket-access.io/policy"] = r.asks
	}
	if r.marked {
		pod.Labels["bucket-access.io/serviceaccount-policy"] = "orders"
	}
	if r.policy != "" {
		pod.Labels["bucket-access.io/injected"] = r.policy
		pod.Annotations["bucket-access.io/status"] = inject.Status{Policy: r.policy, Source: r.source, Hash: r.hash, ServiceAccount: r.account}.String()
	}
	return pod
}

func TestPodsAreCountedByPolicyAndState(t *testing.T) {
	snapshot := policy.Build([]policy.ConfigMap{{Name: "policies", UID: "1", Data: map[string]string{
		"orders": document, "other": document + "prefix: other/\n", "broken": "bucket: [",
	}}}, nil, nil)
	hash := func(name string) string {
		entry, _ := snapshot.Lookup(name)
		return entry.Policy.Hash
	}
	orders := hash("orders")
	shop := map[string]string{"shop": "orders"}
	for name, test := range map[string]struct {
		pod         running
		namespaces  map[string]string
		accounts    map[[2]string]string
		accountIs   string // of an uninjected Pod, read where it must be
		want        metrics.PodCounts
		wantReading bool
	}{
		"current":            {running{policy: "orders", hash: orders, account: "api-sa", source: decide.FromNamespace}, shop, nil, "", metrics.PodCounts{"orders": {metrics.PodsCurrent: 1}}, false},
		"outdated":           {running{policy: "orders", hash: "x", account: "api-sa", source: decide.FromNamespace}, shop, nil, "", metrics.PodCounts{"orders": {metrics.PodsOutdated: 1}}, false},
		"no longer listed":   {running{policy: "orders", hash: orders, account: "third", source: decide.FromNamespace}, shop, nil, "", metrics.PodCounts{"orders": {metrics.PodsRevoked: 1}}, false},
		"an older version's": {running{policy: "orders", hash: orders, source: decide.FromNamespace}, shop, nil, "api-sa", metrics.PodCounts{"orders": {metrics.PodsCurrent: 1}}, true},
		"an older one's, of another ServiceAccount":       {running{policy: "orders", hash: orders, source: decide.FromNamespace}, shop, nil, "third", metrics.PodCounts{"orders": {metrics.PodsRevoked: 1}}, true},
		"an older one's, still unknown":                   {running{policy: "other", hash: hash("other"), source: decide.FromPod}, nil, nil, "", metrics.PodCounts{"other": {metrics.PodsCurrent: 1}}, true},
		"an older one's, none of its Namespace is listed": {running{namespace: "elsewhere", policy: "orders", hash: orders, source: decide.FromPod}, nil, nil, "", metrics.PodCounts{"orders": {metrics.PodsRevoked: 1}}, true},
		"the policy is gone":                              {running{policy: "anything", hash: "x", account: "api-sa", source: decide.FromPod}, nil, nil, "", metrics.PodCounts{"none": {metrics.PodsRevoked: 1}}, false},
		"nothing is in force":                             {running{policy: "broken", hash: "x", account: "api-sa", source: decide.FromPod}, nil, nil, "", metrics.PodCounts{}, false},
		"excluded":                                        {running{namespace: "kube-system", policy: "orders", hash: "x", account: "api-sa"}, nil, nil, "", metrics.PodCounts{}, false},
		"never asked for":                                 {running{}, nil, nil, "api-sa", metrics.PodCounts{}, false},
		"before the Namespace's label":                    {running{}, shop, nil, "api-sa", metrics.PodCounts{"orders": {metrics.PodsUninjected: 1}}, true},
		"in a labelled Namespace, not listed":             {running{}, shop, nil, "third", metrics.PodCounts{}, true},
		"in a labelled Namespace, declined":               {running{asks: "none"}, shop, nil, "api-sa", metrics.PodCounts{}, false},
		"an unknown policy's Namespace":                   {running{}, map[string]string{"shop": "ordres"}, nil, "api-sa", metrics.PodCounts{}, true},
		"before the ServiceAccount's label":               {running{}, nil, map[[2]string]string{{"shop", "second"}: "orders"}, "second", metrics.PodCounts{"orders": {metrics.PodsUninjected: 1}}, true},
		"of another ServiceAccount":                       {running{}, nil, map[[2]string]string{{"shop", "second"}: "orders"}, "api-sa", metrics.PodCounts{}, true},
		"a ServiceAccount that declines":                  {running{}, shop, map[[2]string]string{{"shop", "second"}: "none"}, "second", metrics.PodCounts{}, true},
		"its own label":                                   {running{asks: "orders"}, nil, nil, "api-sa", metrics.PodCounts{"orders": {metrics.PodsUninjected: 1}}, true},
		"marked":                                          {running{marked: true}, nil, nil, "api-sa", metrics.PodCounts{}, true},
		"of what the Namespace said before": {running{policy: "other", hash: hash("other"), account: "api-sa", source: decide.FromNamespace}, shop, nil, "",
			metrics.PodCounts{"orders": {metrics.PodsUninjected: 1}, "other": {metrics.PodsCurrent: 1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if test.pod.namespace == "" {
				test.pod.namespace = "shop"
			}
			test.pod.name = "p"
			index, reads := watch.NewPodIndex(), []string{}
			relist(index, test.pod.object())
			namespaces, accounts := labels(test.namespaces, test.accounts)
			p := &Pods{
				Index: index, Namespaces: namespaces, Accounts: accounts, Policies: policies{snapshot},
				Facts: func() decide.Cluster { return decide.Cluster{} }, Leading: func() bool { return true }, Excluded: []string{"kube-system"},
				Read: func(_ context.Context, namespace string) error {
					reads = append(reads, namespace)
					index.Learn(namespace, map[string]string{"p": test.accountIs})
					return nil
				},
				Recorder: metrics.New(prometheus.NewRegistry()), Log: logr.Discard(), read: map[string]time.Time{},
			}
			p.tick(t.Context())
			p.tick(t.Context()) // reads nothing again
			counts, _ := p.count()
			if diff := cmp.Diff(test.want, counts); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			wantReads := func(n int) {
				t.Helper()
				if want := slices.Repeat([]string{test.pod.namespace}, map[bool]int{true: n}[test.wantReading]); !slices.Equal(reads, want) {
					t.Errorf("Pods were listed in %v; want %v", reads, want)
				}
			}
			wantReads(1)
			relist(index, test.pod.object()) // what was learnt is gone
			p.tick(t.Context())
			if counts, _ := p.count(); !cmp.Equal(test.want, counts) {
				t.Errorf("counts after a list: %v; want %v", counts, test.want)
			}
			wantReads(2)
		})
	}
}

// gauge is what is shown of bucket_access_pods.
func gauge(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "bucket_access_pods" {
			for _, metric := range family.GetMetric() {
				shown[metric.GetLabel()[0].GetValue()+"/"+metric.GetLabel()[1].GetValue()] = metric.GetGauge().GetValue()
			}
		}
	}
	return shown
}

func TestTheGaugeForgetsPoliciesAndFollowersShowNothing(t *testing.T) {
	registry := prometheus.NewRegistry()
	leading := true
	index := watch.NewPodIndex()
	snapshot := policy.Build([]policy.ConfigMap{{Name: "policies", UID: "1", Data: map[string]string{"orders": document}}}, nil, nil)
	namespaces, accounts := watch.NewNamespaceIndex(), watch.NewAccountIndex()
	p := &Pods{
		Index: index, Namespaces: namespaces, Accounts: accounts, Policies: policies{snapshot}, Facts: func() decide.Cluster { return decide.Cluster{} },
		Leading: func() bool { return leading }, Recorder: metrics.New(registry), Log: logr.Discard(),
	}
	shows := func(when string, want map[string]float64) {
		t.Helper()
		p.tick(t.Context())
		if got := gauge(t, registry); !maps.Equal(got, want) {
			t.Errorf("%s: %v; want %v", when, got, want)
		}
	}
	nothing := map[string]float64{"none/revoked": 0}
	shows("before all Pods were seen", nothing)
	pods := []*metav1.PartialObjectMetadata{
		running{namespace: "shop", name: "a", policy: "orders", hash: "x", account: "api-sa", source: decide.FromPod}.object(),
		running{namespace: "shop", name: "b", policy: "gone-1", hash: "x", account: "api-sa", source: decide.FromPod}.object(),
		running{namespace: "shop", name: "c", policy: "gone-2", hash: "x", account: "api-sa", source: decide.FromPod}.object(),
	}
	relist(index, pods...)
	relist(accounts)
	shows("before all Namespaces were seen", nothing)
	relist(namespaces)
	p.Accounts = watch.NewAccountIndex()
	shows("before all ServiceAccounts were seen", nothing)
	p.Accounts = accounts
	full := map[string]float64{"orders/current": 0, "orders/outdated": 1, "orders/uninjected": 0, "orders/revoked": 0, "none/revoked": 2}
	shows("three Pods", full)
	leading = false
	shows("not leading", nothing)
	leading = true
	shows("leading again", full)
	index.Forget()
	shows("it does not know yet that another leads", nothing)
	relist(index, pods...)
	shows("elected again", full)
	index.Remove(pods[0])
	shows("the policy has no Pods any more", map[string]float64{"none/revoked": 2})
}

// BenchmarkCount judges 50,000 Pods in 500 Namespaces, half of them injected.
func BenchmarkCount(b *testing.B) {
	index, namespaces := watch.NewPodIndex(), map[string]string{}
	for i := range 50_000 {
		pod := running{namespace: fmt.Sprintf("namespace-%d", i%500), name: fmt.Sprint(i), source: decide.FromNamespace}
		namespaces[pod.namespace] = "orders"
		if i%2 == 0 {
			pod.policy, pod.hash, pod.account = "orders", "x", fmt.Sprintf("account-%d", i%3)
		}
		index.Put(pod.object())
	}
	snapshot := policy.Build([]policy.ConfigMap{{Name: "policies", UID: "1", Data: map[string]string{"orders": document}}}, nil, nil)
	above, accounts := labels(namespaces, nil)
	p := &Pods{Index: index, Namespaces: above, Accounts: accounts, Policies: policies{snapshot}, Facts: func() decide.Cluster { return decide.Cluster{} }}
	for b.Loop() {
		p.count()
	}
}
