package watch

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// podOf is a Pod's metadata as an API server sends it.
func podOf(namespace, name, policy string, source decide.Source, hash, account string) *metav1.PartialObjectMetadata {
	pod := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "0b8b0c4e-5a7e-4f0e-9f0d-2c9b3a1d7e55", ResourceVersion: "12345678",
		CreationTimestamp: metav1.Time{Time: time.Unix(1, 0)},
		Labels:            map[string]string{"app.kubernetes.io/name": "orders-api", "pod-template-hash": "6d4cf56db6"},
		Annotations:       map[string]string{"prometheus.io/scrape": "true"},
		OwnerReferences:   []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "orders-api-6d4cf56db6"}},
		ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat(`{"f:x":{}}`, 200))}},
	}}
	if policy != "" {
		pod.Labels["bucket-access.io/injected"] = policy
		pod.Annotations["bucket-access.io/status"] = inject.Status{
			Version: inject.StatusVersion, Policy: policy, Source: source, Hash: hash, ServiceAccount: account, Containers: []string{"app"},
			Env: map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::222222222222:role/s3-reader-role", "BUCKET_NAME": "orders-data"},
		}.String()
	}
	return pod
}

// counted is what an index says, class by class.
func counted(x *PodIndex) map[PodClass]int {
	all := map[PodClass]int{}
	x.Classes(func(class PodClass, pods int) { all[class] += pods })
	return all
}

// TestThePodIndexIsWhatItWasTold compares it, after random events, with one that is told of
// everything at once.
func TestThePodIndexIsWhatItWasTold(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		pick := func(from ...string) string { return from[random.IntN(len(from))] }
		x, now := NewPodIndex(), map[string]*metav1.PartialObjectMetadata{}
		x.synced = true
		for range 300 {
			pod := podOf(pick("a", "b", "c"), pick("p", "q", "r", "s"), pick("", "orders", "other"), decide.Source(pick("pod", "namespace")), pick("1", "2"), pick("sa", "sb"))
			if random.IntN(3) == 0 {
				pod.Labels["bucket-access.io/policy"] = pick("orders", "none", "")
			}
			if random.IntN(9) == 0 {
				pod.Annotations["kubernetes.io/config.mirror"] = "x"
			}
			key := pod.Namespace + "/" + pod.Name
			if random.IntN(3) == 0 {
				delete(now, key)
				if err := x.Delete(pod); err != nil {
					t.Fatal(err)
				}
				continue
			}
			// A Pod's ServiceAccount never changes: another one is another Pod.
			_ = x.Delete(pod)
			now[key] = pod
			if err := x.Add(pod); err != nil {
				t.Fatal(err)
			}
		}
		fresh := NewPodIndex()
		var objects []any
		for pod := range maps.Values(now) {
			objects = append(objects, pod)
		}
		if err := fresh.Replace(objects, ""); err != nil {
			t.Fatal(err)
		}
		if got, want := counted(x), counted(fresh); !maps.Equal(got, want) || len(x.namespaces) != len(fresh.namespaces) {
			t.Fatalf("seed %d: %v; want %v", seed, got, want)
		}
		for _, namespace := range []string{"a", "b", "c"} {
			want := 0
			for _, pod := range now {
				class, counts := classOf(pod)
				if counts && pod.Namespace == namespace && !class.Asked.Set && class.Source != decide.FromPod && class.Injected != "orders" {
					want++
				}
			}
			if got, known := x.Without(namespace, "orders"); got != want || !known {
				t.Fatalf("seed %d: %d Pods without the policy (known: %t), want %d", seed, got, known, want)
			}
		}
	}
}

func TestWhatIsNoInjectionIsNone(t *testing.T) {
	forged := podOf("a", "p", "orders", decide.FromPod, "1", "sa")
	delete(forged.Annotations, "bucket-access.io/status")
	other := podOf("a", "p", "orders", decide.FromPod, "1", "sa")
	other.Labels["bucket-access.io/injected"] = "other"
	garbled := podOf("a", "p", "orders", decide.FromPod, "1", "sa")
	garbled.Annotations["bucket-access.io/status"] = `{"policy":`
	for name, pod := range map[string]*metav1.PartialObjectMetadata{"a label alone": forged, "another policy's": other, "unreadable": garbled} {
		if class, counted := classOf(pod); !counted || class != (PodClass{Namespace: "a"}) {
			t.Errorf("%s: %+v", name, class)
		}
	}
	ending := podOf("a", "p", "orders", decide.FromPod, "1", "sa")
	ending.DeletionTimestamp = &metav1.Time{Time: time.Unix(2, 0)}
	x := NewPodIndex()
	_ = x.Add(podOf("a", "p", "orders", decide.FromPod, "1", "sa"))
	_ = x.Update(ending)
	if all := counted(x); len(all) != 0 {
		t.Errorf("one that is being deleted counts: %v", all)
	}
}

func TestAServiceAccountThatWasLearntStays(t *testing.T) {
	x := NewPodIndex()
	for _, name := range []string{"p", "q"} {
		_ = x.Add(podOf("a", name, "", "", "", ""))
	}
	x.Learn("a", map[string]string{"p": "sa", "gone": "sa"})
	x.Learn("elsewhere", map[string]string{"p": "sa"})
	_ = x.Update(podOf("a", "p", "", "", "", "")) // its status changes all the time
	want := map[PodClass]int{{Namespace: "a", Account: "sa"}: 1, {Namespace: "a"}: 1}
	if got := counted(x); !maps.Equal(got, want) {
		t.Fatalf("%v; want %v", got, want)
	}
	_ = x.Delete(podOf("a", "p", "", "", "", ""))
	_ = x.Add(podOf("a", "p", "", "", "", "")) // another Pod of that name
	if got := counted(x); !maps.Equal(got, map[PodClass]int{{Namespace: "a"}: 2}) {
		t.Fatalf("another Pod of that name: %v", got)
	}
}

func TestUnknownUntilAllWereSeen(t *testing.T) {
	x := NewPodIndex()
	_ = x.Add(podOf("a", "p", "", "", "", ""))
	if _, known := x.Without("a", "orders"); known || x.Synced() {
		t.Fatal("it says that it knows")
	}
	_ = x.Replace(nil, "")
	if pods, known := x.Without("a", "orders"); !known || pods != 0 || !x.Synced() {
		t.Fatalf("%d, %t", pods, known)
	}
}

// pages serve Pods' metadata as an API server does.
type pages struct {
	metadata.ResourceInterface
	pods    int
	largest int64
}

func (p *pages) List(_ context.Context, options metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	first := 0
	_, _ = fmt.Sscan(options.Continue, &first)
	last := min(first+int(options.Limit), p.pods)
	p.largest = max(p.largest, options.Limit)
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
	for i := first; i < last; i++ {
		list.Items = append(list.Items, *podOf("a", fmt.Sprint("p", i), "orders", decide.FromNamespace, "1", "sa"))
	}
	if last < p.pods {
		list.Continue = fmt.Sprint(last)
	}
	if options.FieldSelector != "status.phase!=Succeeded,status.phase!=Failed" {
		return nil, fmt.Errorf("field selector %q", options.FieldSelector)
	}
	return list, nil
}

func TestPodsAreListedPageByPage(t *testing.T) {
	served := &pages{pods: 2*podPage + 3}
	store := &podStore{PodIndex: NewPodIndex()}
	if err := store.Replace(nil, "7"); err == nil || store.Synced() {
		t.Fatalf("nothing was listed, and all is known: %v", err)
	}
	for range 2 { // a list after a watch that broke
		_ = store.Add(podOf("a", "gone meanwhile", "", "", "", ""))
		list, err := store.list(t.Context(), served, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil || len(list.Items) != 0 || list.ResourceVersion != "7" || served.largest != podPage {
			t.Fatalf("%v: %d Pods at version %s, pages of %d", err, len(list.Items), list.ResourceVersion, served.largest)
		}
		if err := store.Replace(nil, "7"); err != nil {
			t.Fatal(err)
		}
		class := PodClass{Namespace: "a", Account: "sa", Injected: "orders", Source: decide.FromNamespace, Hash: "1"}
		if got := counted(store.PodIndex); !maps.Equal(got, map[PodClass]int{class: served.pods}) {
			t.Fatal(got)
		}
	}
}

const manyPods = 50_000

// fill tells an index of many Pods in 500 Namespaces, of which every second is injected.
func fill(x *PodIndex, pods int) {
	for i := range pods {
		policy := []string{"", "orders"}[i%2]
		pod := podOf(fmt.Sprintf("namespace-%d", i%500), fmt.Sprintf("orders-api-6d4cf56db6-%d", i), policy, decide.FromNamespace, strings.Repeat("0", 64), fmt.Sprintf("account-%d", i%3))
		_ = x.Add(pod)
	}
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestManyPodsTakeLittleMemory(t *testing.T) {
	before := heap()
	x := NewPodIndex()
	fill(x, manyPods)
	took := heap() - before
	if took > 10<<20 {
		t.Fatalf("%d Pods take %d KiB, %d bytes each", manyPods, took>>10, took/manyPods)
	}
	if _, known := x.Without("namespace-1", "orders"); known {
		t.Fatal("kept alive until here")
	}
}

// BenchmarkPodIndex measures the memory of 50,000 Pods, and the time to go through them all.
func BenchmarkPodIndex(b *testing.B) {
	before := heap()
	x := NewPodIndex()
	fill(x, manyPods)
	took := heap() - before
	classes := 0
	for b.Loop() {
		classes = 0
		x.Classes(func(PodClass, int) { classes++ })
	}
	b.ReportMetric(float64(took)/(1<<20), "MiB")
	b.ReportMetric(float64(classes), "classes")
	runtime.KeepAlive(x)
}

// BenchmarkPodEvent is one change of a Pod, such as of its status.
func BenchmarkPodEvent(b *testing.B) {
	x := NewPodIndex()
	fill(x, manyPods)
	pod := podOf("namespace-1", "orders-api-6d4cf56db6-1", "orders", decide.FromNamespace, strings.Repeat("0", 64), "account-1")
	b.ReportAllocs()
	for b.Loop() {
		_ = x.Update(pod)
	}
}
