package watch

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// pages serve metadata as an API server does.
type pages struct {
	metadata.ResourceInterface
	objects int
	object  func(i int) *metav1.PartialObjectMetadata
	asked   []metav1.ListOptions
}

func (p *pages) List(_ context.Context, options metav1.ListOptions) (*metav1.PartialObjectMetadataList, error) {
	first := 0
	_, _ = fmt.Sscan(options.Continue, &first)
	p.asked = append(p.asked, options)
	last := min(first+int(options.Limit), p.objects)
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
	for i := first; i < last; i++ {
		list.Items = append(list.Items, *p.object(i))
	}
	if last < p.objects {
		list.Continue = fmt.Sprint(last)
	}
	return list, nil
}

// TestObjectsAreListedPageByPage: nothing is in force before the last page, and after it
// nothing of before.
func TestObjectsAreListedPageByPage(t *testing.T) {
	served := &pages{objects: 2*podPage + 3, object: func(i int) *metav1.PartialObjectMetadata {
		return podOf("a", fmt.Sprint("p", i), "orders", decide.FromNamespace, "1", "sa")
	}}
	index := NewPodIndex()
	filled := &store{index: index}
	if index.Synced() {
		t.Fatal("nothing was listed, and all is known")
	}
	for range 2 { // a list after a watch that broke
		before := podOf("a", "gone meanwhile", "", "", "", "")
		if err := filled.Add(before); err != nil {
			t.Fatal(err)
		}
		served.asked = nil
		list, err := filled.list(t.Context(), served, metav1.ListOptions{FieldSelector: "some=thing", Limit: podPage})
		if err != nil || len(list.Items) != 0 || list.ResourceVersion != "7" || len(served.asked) != 3 {
			t.Fatalf("%v: %d objects at version %s, by %d requests", err, len(list.Items), list.ResourceVersion, len(served.asked))
		}
		for _, options := range served.asked {
			if options.Limit != podPage || options.FieldSelector != "some=thing" {
				t.Fatalf("asked with %+v", options)
			}
		}
		if index.namespaces["a"].pods["gone meanwhile"] == nil {
			t.Fatal("the list counts before it is put in force")
		}
		if err := filled.Replace(nil, "7"); err != nil {
			t.Fatal(err)
		}
		class := PodClass{Namespace: "a", Account: "sa", Injected: "orders", Source: decide.FromNamespace, Hash: "1"}
		if got := counted(index); len(got) != 1 || got[class] != served.objects {
			t.Fatal(got)
		}
	}
	if err := filled.Replace(nil, "8"); err != nil || len(counted(index)) != 0 {
		t.Fatalf("one list was put in force twice: %v", err)
	}
	if err := filled.Delete("a name"); err == nil {
		t.Fatal("something else than metadata was taken")
	}
}

// TestStreamedObjectsAreWhatListedOnesAre: what is dropped of them before all are held is
// nothing that an index keeps.
func TestStreamedObjectsAreWhatListedOnesAre(t *testing.T) {
	object := func(i int) *metav1.PartialObjectMetadata {
		o := podOf("a", fmt.Sprint("o", i), []string{"", "orders"}[i%2], decide.FromNamespace, "1", "sa")
		for n, key := range []string{"bucket-access.io/policy", "bucket-access.io/serviceaccount-policy"} {
			if i>>n&1 == 1 {
				o.Labels[key] = "orders"
			}
		}
		for n, key := range []string{
			"bucket-access.io/managed", "eks.amazonaws.com/role-arn", "eks.amazonaws.com/audience", "eks.amazonaws.com/sts-regional-endpoints",
			"eks.amazonaws.com/token-expiration", "kubernetes.io/config.mirror",
		} {
			if i>>(2+n)&1 == 1 {
				o.Annotations[key] = "value"
			}
		}
		if i%7 == 0 {
			o.DeletionTimestamp = &metav1.Time{}
		}
		o.Finalizers = []string{"x"}
		return o
	}
	const n = 256
	known := func(fill func(*store)) (any, any, any) {
		pods, accounts, namespaces := NewPodIndex(), NewAccountIndex(), NewNamespaceIndex()
		for _, index := range []Index{pods, accounts, namespaces} {
			fill(&store{index: index})
		}
		views := map[string]any{}
		for i := range n {
			view, _ := accounts.View("a", fmt.Sprint("o", i))
			object, _ := accounts.Object(types.NamespacedName{Namespace: "a", Name: fmt.Sprint("o", i)})
			views[fmt.Sprint(i)] = []any{view, object}
		}
		return counted(pods), views, namespaces.labels
	}
	listedPods, listedAccounts, listedNamespaces := known(func(s *store) {
		if _, err := s.list(t.Context(), &pages{objects: n, object: object}, metav1.ListOptions{Limit: 100}); err != nil {
			t.Fatal(err)
		}
		if err := s.Replace(nil, ""); err != nil {
			t.Fatal(err)
		}
	})
	streamedPods, streamedAccounts, streamedNamespaces := known(func(s *store) {
		var objects []any
		for i := range n {
			kept, err := s.Transformer()(object(i))
			if err != nil {
				t.Fatal(err)
			}
			if o := kept.(*metav1.PartialObjectMetadata); len(o.ManagedFields)+len(o.OwnerReferences)+len(o.Finalizers) > 0 || o.Labels["pod-template-hash"] != "" { //nolint:forcetypeassert // or the test fails
				t.Fatalf("held while others come: %+v", o)
			}
			objects = append(objects, kept)
		}
		if err := s.Replace(objects, ""); err != nil {
			t.Fatal(err)
		}
	})
	for _, pair := range [][2]any{{listedPods, streamedPods}, {listedAccounts, streamedAccounts}, {listedNamespaces, streamedNamespaces}} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("listed\n%+v\nstreamed\n%+v", pair[0], pair[1])
		}
	}
}
