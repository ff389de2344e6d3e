package watch

import (
	"context"
	"strconv"
	"testing"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// configMaps are those of an API server, and what it is asked for.
type configMaps struct {
	client.Reader

	items       map[string]*corev1.ConfigMap
	gets, lists int
}

func (c *configMaps) put(name string, version int, data map[string]string) {
	c.items[name] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: name, UID: types.UID("uid-" + name), ResourceVersion: strconv.Itoa(version), Labels: map[string]string{"bucket-access.io/policies": "true"},
	}, Data: data}
}

func (c *configMaps) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	c.gets++
	item, found := c.items[key.Name]
	if !found {
		return apierrors.NewNotFound(corev1.Resource("configmaps"), key.Name)
	}
	into.(*metav1.PartialObjectMetadata).ObjectMeta = item.ObjectMeta //nolint:forcetypeassert // or the test fails
	return nil
}

func (c *configMaps) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	c.lists++
	for _, item := range c.items {
		switch list := into.(type) {
		case *corev1.ConfigMapList:
			list.Items = append(list.Items, *item)
		case *metav1.PartialObjectMetadataList:
			list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: item.ObjectMeta})
		}
	}
	return nil
}

func document(subject string) string {
	return "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects: [{namespace: shop, serviceAccount: " + subject + "}]\n"
}

// TestLiveFindsWhatTheCacheHasNot: whatever has changed at the API server, a policy that was
// asked for is found as it is there; where nothing has, its own ConfigMap is read and no other.
func TestLiveFindsWhatTheCacheHasNot(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(c *configMaps)
		asked   string
		allowed string // who may use the policy then; empty where nothing younger is said
		gets    int
		lists   int
	}{
		"nothing":                    {func(*configMaps) {}, "orders", "", 1, 0},
		"nothing, and it is unknown": {func(*configMaps) {}, "ordres", "", 0, 1},
		"nothing, and it is invalid": {func(*configMaps) {}, "broken", "", 0, 1},
		"another ConfigMap":          {func(c *configMaps) { c.put("other", 8, map[string]string{"stock": document("y")}) }, "orders", "", 1, 0},
		"a subject was added":        {func(c *configMaps) { c.put("one", 9, map[string]string{"orders": document("new")}) }, "orders", "new", 1, 2},
		"its ConfigMap was made again": {func(c *configMaps) {
			c.put("one", 1, map[string]string{"orders": document("new")})
			c.items["one"].UID = "again"
		}, "orders", "new", 1, 2},
		"it has moved to another": {func(c *configMaps) {
			delete(c.items, "one")
			c.put("other", 9, map[string]string{"orders": document("new")})
		}, "orders", "new", 1, 2},
		"it has come":                      {func(c *configMaps) { c.put("two", 9, map[string]string{"ordres": document("new")}) }, "ordres", "new", 0, 2},
		"it is mended":                     {func(c *configMaps) { c.put("invalid", 9, map[string]string{"broken": document("new")}) }, "broken", "new", 0, 2},
		"a good one of its name has come":  {func(c *configMaps) { c.put("two", 9, map[string]string{"broken": document("new")}) }, "broken", "new", 0, 2},
		"its ConfigMap is none any longer": {func(c *configMaps) { c.put("one", 9, nil) }, "orders", "nobody", 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			c := &configMaps{items: map[string]*corev1.ConfigMap{}}
			c.put("one", 3, map[string]string{"orders": document("old")})
			c.put("invalid", 4, map[string]string{"broken": "bucket: ["})
			c.put("other", 5, map[string]string{"stock": document("x")})
			p := &Policies{
				Store: &policy.Store{}, Uncached: c, Namespace: "system", Limit: rate.NewLimiter(rate.Inf, 1), Log: logr.Discard(),
				Recorder: metrics.New(prometheus.NewRegistry()), Cluster: slowCluster(1),
			}
			seen, lastGood, err := p.list(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			p.Store.Update(seen, nil)
			p.loaded.Store(versionsOf(seen, lastGood))
			c.lists = 0
			test.change(c)
			younger, err := p.Live(t.Context(), test.asked)
			if err != nil || (younger != nil) != (test.allowed != "") {
				t.Fatalf("younger: %t, %v", younger != nil, err)
			}
			if c.gets != test.gets || c.lists != test.lists {
				t.Errorf("%d ConfigMaps were read and %d lists, want %d and %d", c.gets, c.lists, test.gets, test.lists)
			}
			entry, known := younger.Lookup(test.asked)
			if test.allowed == "nobody" {
				if known {
					t.Error("a policy that is gone is known still")
				}
				return
			}
			if younger != nil && (!known || entry.Policy == nil || !entry.Policy.Subjects.Allow("shop", test.allowed)) {
				t.Errorf("it is not what it is at the API server: %+v", entry)
			}
		})
	}
}
