package watch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// relist tells an index of all there is.
func relist(x Index, objects ...*metav1.PartialObjectMetadata) {
	put, take := x.Anew()
	for _, object := range objects {
		put(object)
	}
	take()
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
				x.Remove(pod)
				continue
			}
			// A Pod's ServiceAccount never changes: another one is another Pod.
			x.Remove(pod)
			now[key] = pod
			x.Put(pod)
		}
		fresh := NewPodIndex()
		relist(fresh, slices.Collect(maps.Values(now))...)
		if got, want := counted(x), counted(fresh); !maps.Equal(got, want) || len(x.namespaces) != len(fresh.namespaces) {
			t.Fatalf("seed %d: %v; want %v", seed, got, want)
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
	x.Put(podOf("a", "p", "orders", decide.FromPod, "1", "sa"))
	x.Put(ending)
	if all := counted(x); len(all) != 0 {
		t.Errorf("one that is being deleted counts: %v", all)
	}
}

func TestAServiceAccountThatWasLearntStays(t *testing.T) {
	x := NewPodIndex()
	for _, name := range []string{"p", "q"} {
		x.Put(podOf("a", name, "", "", "", ""))
	}
	x.Learn("a", map[string]string{"p": "sa", "gone": "sa"})
	x.Learn("elsewhere", map[string]string{"p": "sa"})
	x.Put(podOf("a", "p", "", "", "", "")) // its status changes all the time
	want := map[PodClass]int{{Namespace: "a", Account: "sa"}: 1, {Namespace: "a"}: 1}
	if got := counted(x); !maps.Equal(got, want) {
		t.Fatalf("%v; want %v", got, want)
	}
	x.Remove(podOf("a", "p", "", "", "", ""))
	x.Put(podOf("a", "p", "", "", "", "")) // another Pod of that name
	if got := counted(x); !maps.Equal(got, map[PodClass]int{{Namespace: "a"}: 2}) {
		t.Fatalf("another Pod of that name: %v", got)
	}
}

func TestUnknownUntilAllWereSeen(t *testing.T) {
	x := NewPodIndex()
	x.Put(podOf("a", "p", "", "", "", ""))
	if x.Synced() {
		t.Fatal("it says that it knows")
	}
	relist(x)
	if all := counted(x); len(all) != 0 || !x.Synced() {
		t.Fatalf("%v, %t", all, x.Synced())
	}
}

const manyPods = 50_000

// fill tells an index of many Pods in 500 Namespaces, of which every second is injected.
func fill(x *PodIndex, pods int) {
	for i := range pods {
		policy := []string{"", "orders"}[i%2]
		pod := podOf(fmt.Sprintf("namespace-%d", i%500), fmt.Sprintf("orders-api-6d4cf56db6-%d", i), policy, decide.FromNamespace, strings.Repeat("0", 64), fmt.Sprintf("account-%d", i%3))
		x.Put(pod)
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
	runtime.KeepAlive(x)
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
		x.Put(pod)
	}
}

func TestWhatIsForgottenIsUnknown(t *testing.T) {
	x := NewPodIndex()
	relist(x, podOf("a", "p", "", "", "", ""))
	x.Forget()
	x.Learn("a", map[string]string{"p": "sa"}) // a list that was under way
	if all := counted(x); len(all) != 0 || x.Synced() {
		t.Fatalf("%v, %t", all, x.Synced())
	}
	x.Put(podOf("a", "q", "", "", "", ""))
	if all := counted(x); len(all) != 1 {
		t.Fatalf("told again: %v", all)
	}
}
