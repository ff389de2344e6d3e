package watch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// server is an API server that may be down, and that can't stream lists.
type server struct {
	typedcorev1.ConfigMapInterface

	mu      sync.Mutex
	down    bool
	items   map[string]*corev1.ConfigMap
	watches []*apiwatch.FakeWatcher
	asked   []time.Time // while it was down
}

var errDown = errors.New("configmaps is forbidden: RBAC has not been read yet")

func (s *server) List(context.Context, metav1.ListOptions) (*corev1.ConfigMapList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		s.asked = append(s.asked, time.Now())
		return nil, errDown
	}
	list := &corev1.ConfigMapList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}
	for _, item := range s.items {
		list.Items = append(list.Items, *item.DeepCopy())
	}
	return list, nil
}

func (s *server) Watch(_ context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down || options.SendInitialEvents != nil {
		return nil, errDown
	}
	w := apiwatch.NewFakeWithOptions(apiwatch.FakeOptions{ChannelSize: 10})
	s.watches = append(s.watches, w)
	return w, nil
}

// set makes it go down, or come up again with the ConfigMaps.
func (s *server) set(down bool, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down = down; !down {
		s.items = map[string]*corev1.ConfigMap{}
		for _, name := range names {
			s.items[name] = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}}}
		}
		return
	}
	for _, w := range s.watches {
		w.Stop()
	}
	s.watches = nil
}

func namesOf(d *Documents) string {
	var names []string
	for _, item := range d.Items() {
		if item.ManagedFields != nil {
			names = append(names, "managed fields of")
		}
		names = append(names, item.Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// However often an API server has refused, one that is up again is asked within a second: a
// policy is no older for all the failures. client-go's own pauses would be 6 to 12 s by the fourth.
func TestPoliciesAreReadSoonAfterAnyOutage(t *testing.T) {
	t.Parallel() // client-go's handling of errors does not know of a test's own clock
	api := &server{}
	api.set(false, "policies")
	documents := NewDocuments(api, logr.Discard())
	if documents.Known() {
		t.Error("it knows before it has asked")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- documents.Start(ctx) }()
	appears := func(name string) bool {
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if namesOf(documents) == name && documents.Known() {
				return true
			}
		}
		return false
	}
	if !appears("policies") {
		t.Error("at first: nothing")
	}
	for i := range 5 {
		api.set(true)
		time.Sleep(1500 * time.Millisecond)
		if namesOf(documents) == "" {
			t.Errorf("outage %d: what was known is gone", i)
		}
		name := "policies-" + strings.Repeat("x", i)
		if api.set(false, name); !appears(name) {
			t.Errorf("3 s after outage %d: %q", i, namesOf(documents))
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for i := range api.asked[1:] {
		if pause := api.asked[i+1].Sub(api.asked[i]); pause < soon.Duration {
			t.Errorf("it was asked again after %s", pause)
		}
	}
}

// TestPoliciesFollowTheirWatch through each kind of event.
func TestPoliciesFollowTheirWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &server{}
		api.set(false)
		documents := NewDocuments(api, logr.Discard())
		var changes int
		documents.changed = func() { changes++ }
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = documents.Start(ctx) }()
		synctest.Wait()
		item := func(name string) *corev1.ConfigMap {
			return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "2", ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}}}
		}
		w := api.watches[0]
		for i, step := range []struct {
			event func()
			want  string
		}{
			{func() { w.Add(item("a")) }, "a"}, {func() { w.Add(item("b")) }, "a b"}, {func() { w.Modify(item("a")) }, "a b"}, {func() { w.Delete(item("a")) }, "b"},
		} {
			step.event()
			synctest.Wait()
			if got := namesOf(documents); got != step.want || changes != i+2 {
				t.Errorf("step %d: %q after %d changes", i, got, changes)
			}
		}
		stop()
		synctest.Wait()
	})
}

// silent is an API server whose answers get lost; with a watch, one that answers that.
type silent struct {
	typedcorev1.ConfigMapInterface

	watch apiwatch.Interface
	begun context.Context //nolint:containedctx // to see it end
}

func (s *silent) Watch(ctx context.Context, _ metav1.ListOptions) (apiwatch.Interface, error) {
	if s.begun = ctx; s.watch != nil {
		return s.watch, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestAWatchMustBeginSoon, and may last, and leaves nothing behind.
func TestAWatchMustBeginSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &silent{}
		documents := NewDocuments(api, logr.Discard())
		begin := time.Now()
		if _, err := documents.watch(t.Context(), metav1.ListOptions{}); !errors.Is(err, context.Canceled) || time.Since(begin) != answered {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
		api.watch = apiwatch.NewFake()
		w, err := documents.watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if time.Sleep(time.Hour); api.begun.Err() != nil {
			t.Error("it was ended while it went on")
		}
		if w.Stop(); api.begun.Err() == nil {
			t.Error("it goes on after its end")
		}
	})
}
