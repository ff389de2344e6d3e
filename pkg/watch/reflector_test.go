package watch

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if err := filled.Replace(nil, "7"); err == nil || index.Synced() {
		t.Fatalf("nothing was listed, and all is known: %v", err)
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
	if err := filled.Replace(nil, "8"); err == nil {
		t.Fatal("one list was put in force twice")
	}
	if err := filled.Delete("a name"); err == nil {
		t.Fatal("something else than metadata was taken")
	}
}
