package watch

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

const (
	labelKey   = "bucket-access.io/policy"
	managedKey = "bucket-access.io/managed"
	roleKey    = "eks.amazonaws.com/role-arn"
	expiresKey = "eks.amazonaws.com/token-expiration"
)

// accountOf is a ServiceAccount's metadata as an API server sends it.
func accountOf(namespace, name string, version int) *metav1.PartialObjectMetadata {
	account := ServiceAccount()
	account.ObjectMeta = metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "0b8b0c4e-5a7e-4f0e-9f0d-2c9b3a1d7e55", ResourceVersion: strconv.Itoa(version),
		CreationTimestamp: metav1.Time{Time: time.Unix(1, 0)},
		Labels:            map[string]string{"app.kubernetes.io/name": name},
		Annotations:       map[string]string{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("{}", 100)},
		ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(strings.Repeat(`{"f:x":{}}`, 20))}},
	}
	return account
}

// annotated gives what the webhook writes.
func annotated(account *metav1.PartialObjectMetadata, policy string) *metav1.PartialObjectMetadata {
	role := "arn:aws:iam::222222222222:role/role-of-" + policy
	account.Labels[labelKey] = policy
	maps.Copy(account.Annotations, map[string]string{
		roleKey: role, expiresKey: "3600", "eks.amazonaws.com/audience": "sts.amazonaws.com", "eks.amazonaws.com/sts-regional-endpoints": "true",
		managedKey: `{"eks.amazonaws.com/audience":"sts.amazonaws.com","eks.amazonaws.com/role-arn":"` + role +
			`","eks.amazonaws.com/sts-regional-endpoints":"true","eks.amazonaws.com/token-expiration":"3600"}`,
	})
	return account
}

// keeps is what must be known of a ServiceAccount, by its metadata.
func keeps(account *metav1.PartialObjectMetadata) inject.ServiceAccountView {
	view := inject.ServiceAccountView{Namespace: account.Namespace, Name: account.Name, Policy: decide.LabelOf(account.Labels, labelKey)}
	for key, value := range account.Annotations {
		if key == managedKey || slices.Contains(inject.AccountAnnotations(), key) {
			if view.Annotations == nil {
				view.Annotations = map[string]string{}
			}
			view.Annotations[key] = value
			view.HasAnnotations = true
		}
	}
	return view
}

func isConcerned(account *metav1.PartialObjectMetadata) bool {
	if account == nil {
		return false
	}
	_, labelled := account.Labels[labelKey]
	_, managed := account.Annotations[managedKey]
	return labelled || managed
}

type objects map[types.NamespacedName]*metav1.PartialObjectMetadata

func byName(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

func sorted(names []types.NamespacedName) []types.NamespacedName {
	return slices.SortedFunc(slices.Values(names), byName)
}

// holds compares all answers of an index with what there is.
func holds(t *testing.T, x *AccountIndex, now objects) {
	t.Helper()
	named, labelled, concerned, namespaces, count := map[string][]types.NamespacedName{}, map[string]int{}, []types.NamespacedName(nil), map[string]bool{}, 0
	for name, object := range now {
		want := keeps(object)
		view, found := x.View(name.Namespace, name.Name)
		if diff := gocmp.Diff(want, view); !found || diff != "" {
			t.Fatalf("%s is known: %t (-want +got):\n%s", name, found, diff)
		}
		known, _ := x.Object(name)
		if isConcerned(object) && (known.UID != object.UID || known.ResourceVersion != object.ResourceVersion) || known.Kind != "ServiceAccount" {
			t.Fatalf("%s is patched as %s at %s", name, known.UID, known.ResourceVersion)
		}
		if diff := gocmp.Diff(want, AccountView(known)); diff != "" {
			t.Fatalf("%s as an object (-want +got):\n%s", name, diff)
		}
		if want.Policy.Set {
			named[want.Policy.Value] = append(named[want.Policy.Value], name)
			labelled[name.Namespace]++
		}
		if isConcerned(object) {
			concerned = append(concerned, name)
		}
		namespaces[name.Namespace] = true
	}
	for _, here := range x.namespaces {
		count += len(here.accounts)
	}
	if count != len(now) || len(x.namespaces) != len(namespaces) || len(x.policies) != len(named) {
		t.Fatalf("%d in %d Namespaces by %d policies are kept; want %d in %d by %d", count, len(x.namespaces), len(x.policies), len(now), len(namespaces), len(named))
	}
	for policy, want := range named {
		if got := x.Of(policy); !slices.Equal(sorted(got), sorted(want)) {
			t.Fatalf("policy %q is named by %v; want %v", policy, got, want)
		}
	}
	for namespace := range x.namespaces {
		if got := x.Labelled(namespace); got != labelled[namespace] {
			t.Fatalf("%d are labelled in %s; want %d", got, namespace, labelled[namespace])
		}
	}
	if got := x.Concerned(); !slices.Equal(sorted(got), sorted(concerned)) {
		t.Fatalf("concerned are %v; want %v", got, concerned)
	}
}

// randomAccount carries any of what counts, often the same as others.
func randomAccount(random *rand.Rand, version int) *metav1.PartialObjectMetadata {
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	account := accountOf(pick("a", "b", "c"), pick("p", "q", "r", "s"), version)
	switch random.IntN(6) {
	case 0:
		account.Labels[labelKey] = pick("orders", "other", "none", "")
	case 1, 2:
		annotated(account, pick("orders", "other"))
	case 3:
		annotated(account, pick("orders", "other"))
		account.Annotations[expiresKey] = pick("36", "900", "")
	case 4:
		delete(annotated(account, "orders").Labels, labelKey)
	}
	if random.IntN(4) == 0 {
		account.Annotations[roleKey] = pick("arn:aws:iam::111111111111:role/mine", "")
	}
	return account
}

// TestTheAccountIndexIsWhatItWasTold: whatever the order of events and lists, it says what there
// is now; and it tells of each change of what is concerned before or after, once, also of those
// that only a list brought to light.
func TestTheAccountIndexIsWhatItWasTold(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 1))
		x, now, told := NewAccountIndex(), objects{}, []types.NamespacedName(nil)
		x.OnChange(func(name types.NamespacedName) { told = append(told, name) })
		next := func(now objects, version int) (name types.NamespacedName, before, after *metav1.PartialObjectMetadata) {
			after = randomAccount(random, version)
			name = types.NamespacedName{Namespace: after.Namespace, Name: after.Name}
			before = now[name]
			if now[name] = after; random.IntN(3) == 0 {
				delete(now, name)
				after = nil
			}
			return name, before, after
		}
		for i := range 200 {
			told = nil
			var want []types.NamespacedName
			if random.IntN(20) == 0 { // the watch broke, and several changes were missed
				was := maps.Clone(now)
				for n := range random.IntN(6) {
					next(now, 1000*(i+1)+n)
				}
				for name := range was {
					if isConcerned(was[name]) && now[name] != was[name] {
						want = append(want, name)
					}
				}
				for name := range now {
					if isConcerned(now[name]) && now[name] != was[name] && !isConcerned(was[name]) {
						want = append(want, name)
					}
				}
				relist(x, slices.Collect(maps.Values(now))...)
			} else {
				name, before, after := next(now, 1000*(i+1))
				switch {
				case after != nil:
					x.Put(after)
				case before != nil:
					x.Remove(before)
				default:
					x.Remove(accountOf(name.Namespace, name.Name, i)) // it was never heard of
				}
				if isConcerned(before) || isConcerned(after) {
					want = append(want, name)
				}
			}
			if !slices.Equal(sorted(told), sorted(want)) {
				t.Fatalf("seed %d, step %d: told of %v; want %v", seed, i, told, want)
			}
		}
		holds(t, x, now)
		fresh := NewAccountIndex()
		relist(fresh, slices.Collect(maps.Values(now))...)
		holds(t, fresh, now)
	}
}

func TestNoAccountIsKnownUntilAllWereSeen(t *testing.T) {
	accounts, namespaces := NewAccountIndex(), NewNamespaceIndex()
	c := NewCluster(accounts, namespaces, nil, LiveReads{}, nil, decide.Cluster{})
	put, take := accounts.Anew()
	put(annotated(accountOf("shop", "api-sa", 1), "orders"))
	if view, found, err := c.ServiceAccount(t.Context(), "shop", "api-sa"); found || err != nil || view.Name != "api-sa" {
		t.Fatalf("%+v, %t, %v", view, found, err)
	}
	ready := func(want string) {
		t.Helper()
		if got := fmt.Sprint(c.Ready()); got != want {
			t.Fatalf("ready: %s; want %s", got, want)
		}
	}
	ready("not all ServiceAccounts have been listed yet")
	take()
	ready("not all Namespaces have been listed yet")
	relist(namespaces)
	ready("<nil>")
	if view, found, _ := c.ServiceAccount(t.Context(), "shop", "api-sa"); !found || view.Policy.Value != "orders" {
		t.Fatalf("%+v, %t", view, found)
	}
}

func TestTheNamespaceIndexIsWhatItWasTold(t *testing.T) {
	namespace := func(name string, labels map[string]string) *metav1.PartialObjectMetadata {
		object := Namespace()
		object.Name, object.Labels = name, labels
		return object
	}
	x, random, now := NewNamespaceIndex(), rand.New(rand.NewPCG(1, 1)), map[string]*metav1.PartialObjectMetadata{}
	for range 2000 {
		object := namespace(strconv.Itoa(random.IntN(20)), map[string]string{"team": "a"})
		if random.IntN(2) == 0 {
			object.Labels[labelKey] = []string{"orders", "other", ""}[random.IntN(3)]
		}
		switch random.IntN(8) {
		case 0, 1:
			delete(now, object.Name)
			x.Remove(object)
		case 2:
			now[object.Name] = object
			relist(x, slices.Collect(maps.Values(now))...)
		default:
			now[object.Name] = object
			x.Put(object)
		}
		for i := range 20 {
			name := strconv.Itoa(i)
			label, found := x.Label(name)
			if object, exists := now[name]; exists != found || exists && label != decide.LabelOf(object.Labels, labelKey) {
				t.Fatalf("%s: %+v, known: %t; there is %+v", name, label, found, object)
			}
		}
	}
}

// TestAnIndexHoldsNothingOfTheDecoders overwrites the memory of what it was told.
func TestAnIndexHoldsNothingOfTheDecoders(t *testing.T) {
	var buffers [][]byte
	lent := func(text string) string {
		if text == "" {
			return text
		}
		buffer := []byte(text)
		buffers = append(buffers, buffer)
		return unsafe.String(&buffer[0], len(buffer))
	}
	lend := func(object *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
		object = object.DeepCopy()
		object.Namespace, object.Name, object.ResourceVersion = lent(object.Namespace), lent(object.Name), lent(object.ResourceVersion)
		object.UID = types.UID(lent(string(object.UID)))
		for _, all := range []map[string]string{object.Labels, object.Annotations} {
			for key, value := range all {
				all[key] = lent(value)
			}
		}
		return object
	}
	mine := accountOf("b", "mine", 1)
	mine.Annotations[roleKey] = "arn:aws:iam::111111111111:role/mine"
	labelled := Namespace()
	labelled.Name, labelled.Labels = "a", map[string]string{labelKey: "orders"}
	asking := podOf("a", "p", "orders", decide.FromPod, "1", "sa")
	asking.Labels[labelKey] = "orders"
	accounts, namespaces, pods := NewAccountIndex(), NewNamespaceIndex(), NewPodIndex()
	for _, object := range []*metav1.PartialObjectMetadata{annotated(accountOf("a", "p", 1), "orders"), accountOf("b", "plain", 1), mine} {
		accounts.Put(lend(object))
	}
	namespaces.Put(lend(labelled))
	pods.Put(lend(asking))
	for _, buffer := range buffers {
		for i := range buffer {
			buffer[i] = 'x'
		}
	}
	holds(t, accounts, objects{{Namespace: "a", Name: "p"}: annotated(accountOf("a", "p", 1), "orders"), {Namespace: "b", Name: "plain"}: accountOf("b", "plain", 1), {Namespace: "b", Name: "mine"}: mine})
	if label, found := namespaces.Label("a"); !found || label != (decide.Label{Value: "orders", Set: true}) {
		t.Errorf("the Namespace's label is %+v, known: %t", label, found)
	}
	want, _ := classOf(asking)
	if got := counted(pods); !maps.Equal(got, map[PodClass]int{want: 1}) || pods.namespaces["a"].pods["p"] == nil {
		t.Errorf("the Pod is %v", got)
	}
}

// TestTheAccountIndexIsReadWhileItIsWritten is for the race detector.
func TestTheAccountIndexIsReadWhileItIsWritten(t *testing.T) {
	x, random, done := NewAccountIndex(), rand.New(rand.NewPCG(1, 1)), make(chan struct{})
	x.OnChange(func(name types.NamespacedName) { x.Object(name) })
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				view, _ := x.View("a", "p")
				for key := range view.Annotations {
					_ = view.Annotations[key] + view.Policy.Value
				}
				x.Object(types.NamespacedName{Namespace: "a", Name: "p"})
				x.Of("orders")
				x.Concerned()
				x.Labelled("a")
				x.Synced()
			}
		})
	}
	var now objects
	for i := range 2000 {
		if i%50 == 0 {
			now = objects{}
			for n := range 8 {
				account := randomAccount(random, 1000*(i+1)+n)
				now[types.NamespacedName{Namespace: account.Namespace, Name: account.Name}] = account
			}
			relist(x, slices.Collect(maps.Values(now))...)
		}
		account := randomAccount(random, 1000*(i+1)+500)
		name := types.NamespacedName{Namespace: account.Namespace, Name: account.Name}
		if now[name] = account; i%3 != 0 {
			x.Put(account)
			continue
		}
		delete(now, name)
		x.Remove(account)
	}
	close(done)
	readers.Wait()
	holds(t, x, now)
}

const manyAccounts = 100_000

// fillAccounts tells an index of many ServiceAccounts in 10,000 Namespaces, a fifth of which is
// labelled, by 10,000 policies.
func fillAccounts(x *AccountIndex) {
	put, take := x.Anew()
	for i := range manyAccounts {
		account := accountOf(fmt.Sprint("team-", i%10_000), fmt.Sprint("application-", i/10_000), 1_000_000+i)
		if i < manyAccounts/5 {
			annotated(account, fmt.Sprint("policy-", i%10_000))
		}
		put(account)
	}
	take()
}

func TestManyAccountsTakeLittleMemory(t *testing.T) {
	before := heap()
	x := NewAccountIndex()
	fillAccounts(x)
	took := heap() - before
	t.Logf("%d KiB", took>>10)
	if took > 18<<20 {
		t.Fatalf("%d ServiceAccounts take %d KiB, %d bytes each", manyAccounts, took>>10, took/manyAccounts)
	}
	if allocations := testing.AllocsPerRun(100, func() { x.View("team-7", "application-1") }); allocations > 0 {
		t.Fatalf("a look-up takes memory, %v times", allocations)
	}
}

// BenchmarkAccountIndex measures the memory of 100,000 ServiceAccounts, and the time to find one.
func BenchmarkAccountIndex(b *testing.B) {
	before := heap()
	x := NewAccountIndex()
	fillAccounts(x)
	took := heap() - before
	b.ReportAllocs()
	for b.Loop() {
		if _, found := x.View("team-7", "application-1"); !found {
			b.Fatal("not found")
		}
	}
	b.ReportMetric(float64(took)/(1<<20), "MiB")
	runtime.KeepAlive(x)
}

// BenchmarkAccountEvent is one change of a labelled ServiceAccount.
func BenchmarkAccountEvent(b *testing.B) {
	x := NewAccountIndex()
	fillAccounts(x)
	account := annotated(accountOf("team-7", "application-1", 1), "policy-7")
	b.ReportAllocs()
	for b.Loop() {
		x.Put(account)
	}
}

// BenchmarkAccountsOfPolicy finds the two of a changed policy.
func BenchmarkAccountsOfPolicy(b *testing.B) {
	x := NewAccountIndex()
	fillAccounts(x)
	for b.Loop() {
		if len(x.Of("policy-7")) != 2 {
			b.Fatal("not two")
		}
	}
}
