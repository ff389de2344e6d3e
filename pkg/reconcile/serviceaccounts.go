package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// Policies is what the reconciler asks of the policies.
type Policies interface {
	decide.Policies
	// Ready says whether there is a snapshot at all: before the first, every policy
	// would look gone.
	Ready() bool
	Snapshot() *policy.Snapshot
	Subscribe(f func(changed []string))
}

// ServiceAccounts keeps the annotations of labelled ServiceAccounts as their
// policy says, and takes them away when label or policy goes.
type ServiceAccounts struct {
	Accounts *watch.AccountIndex
	Writer   client.Writer
	Policies Policies
	Facts    func() decide.Cluster
	Leading  func() bool
	// Excluded are the namespaces that the admission entries leave alone.
	Excluded []string
	Events   events.EventRecorder
	Recorder *metrics.Recorder
	Log      logr.Logger

	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[reconcile.Request]
	said  map[types.NamespacedName]string // the last message of an Event, so that each is said once
}

// workers reconcile at once; the API server, not this process, is what they wait for.
const workers = 4

// notReadyRetry is short: policies are loaded right after the caches.
const notReadyRetry = 100 * time.Millisecond

// Register adds the controller to the manager. It runs on every replica, and does
// something on the leader.
func (s *ServiceAccounts) Register(mgr ctrl.Manager) error {
	s.said = map[types.NamespacedName]string{}
	s.Policies.Subscribe(s.policiesChanged)
	s.Accounts.OnChange(func(name types.NamespacedName) { s.enqueue(name) })
	return ctrl.NewControllerManagedBy(mgr).Named("serviceaccounts").
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, NeedLeaderElection: ptr.To(false), SkipNameValidation: ptr.To(true)}).
		WatchesRawSource(source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			s.begin(queue)
			return nil
		})).
		Complete(s)
}

// begin has what changes queued from now on, and queues what changed before.
func (s *ServiceAccounts) begin(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	s.mu.Lock()
	s.queue = queue
	s.mu.Unlock()
	s.All()
}

// enqueue queues ServiceAccounts, but those that the admission entries leave alone. A follower
// queues none: the index knows them before, and a new leader begins with all.
func (s *ServiceAccounts) enqueue(names ...types.NamespacedName) {
	s.mu.Lock()
	queue := s.queue
	s.mu.Unlock()
	if queue == nil || !s.Leading() {
		return
	}
	for _, name := range names {
		if !slices.Contains(s.Excluded, name.Namespace) {
			queue.Add(reconcile.Request{NamespacedName: name})
		}
	}
}

// policiesChanged queues the ServiceAccounts that name a changed policy.
func (s *ServiceAccounts) policiesChanged(changed []string) {
	for _, policy := range changed {
		s.enqueue(s.Accounts.Of(policy)...)
	}
}

// All queues every ServiceAccount that is concerned: for a new leader, and for a
// change that concerns all policies.
func (s *ServiceAccounts) All() { s.enqueue(s.Accounts.Concerned()...) }

// Reconcile brings one ServiceAccount to what its policy says.
func (s *ServiceAccounts) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if !s.Leading() {
		return reconcile.Result{}, nil
	}
	if !s.Policies.Ready() {
		return reconcile.Result{RequeueAfter: notReadyRetry}, nil
	}
	object, found := s.Accounts.Object(request.NamespacedName)
	if !found {
		s.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	account, policies := watch.AccountView(object), s.Policies.Snapshot()
	outcome := inject.ServiceAccount(account,
		decide.ServiceAccount(account.Namespace, account.Name, account.Policy, policies, s.Facts()))
	s.Recorder.Account(outcome.Kind, outcome.Reason)
	s.report(object, outcome, policies)
	if len(outcome.Annotations) == 0 {
		return reconcile.Result{}, nil
	}
	body, err := mergePatch(object, outcome.Annotations)
	if err != nil {
		return reconcile.Result{}, err
	}
	target := watch.ServiceAccount()
	target.Namespace, target.Name = object.Namespace, object.Name
	err = s.Writer.Patch(ctx, target, client.RawPatch(types.MergePatchType, body))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // a younger object is on its way to the index
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("annotating ServiceAccount %s: %w", request.NamespacedName, err)
	}
	// The patch went through admission, perhaps by a replica that has not seen the
	// policy change yet and put the values before it back.
	if !carries(target.Annotations, outcome.Annotations) {
		return reconcile.Result{RequeueAfter: overruledRetry}, nil
	}
	s.Log.V(1).Info("ServiceAccount annotated", "namespace", object.Namespace, "name", object.Name,
		"policy", outcome.PolicyName, "reason", outcome.Reason)
	return reconcile.Result{}, nil
}

// overruledRetry is longer than a policy takes to reach every replica.
const overruledRetry = time.Second

// carries says whether every edit is in the annotations.
func carries(annotations map[string]string, edits map[string]decide.Label) bool {
	for key, edit := range edits {
		if decide.LabelOf(annotations, key) != edit {
			return false
		}
	}
	return true
}

// mergePatch sets and removes annotations of the very object that was judged: its
// resourceVersion makes a change in between a conflict.
func mergePatch(object *metav1.PartialObjectMetadata, edits map[string]decide.Label) ([]byte, error) {
	annotations := map[string]*string{}
	for key, edit := range edits {
		annotations[key] = nil
		if edit.Set {
			annotations[key] = &edit.Value
		}
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": object.UID, "resourceVersion": object.ResourceVersion, "annotations": annotations,
	}})
}

// report tells of a request that can't be met, once.
func (s *ServiceAccounts) report(object *metav1.PartialObjectMetadata, outcome inject.AccountOutcome, policies *policy.Snapshot) {
	name := client.ObjectKeyFromObject(object)
	if outcome.Kind != decide.Deny {
		s.forget(name)
		return
	}
	s.mu.Lock()
	again := s.said[name] == outcome.Message
	s.said[name] = outcome.Message
	s.mu.Unlock()
	if again {
		return
	}
	s.Log.Info("ServiceAccount can't be given access", "namespace", object.Namespace, "name", object.Name,
		"policy", outcome.PolicyName, "reason", outcome.Reason)
	var related runtime.Object
	if entry, known := policies.Lookup(outcome.PolicyName); known {
		related = watch.Reference(policies, entry.Source, entry.Key)
	}
	s.Events.Eventf(object, related, corev1.EventTypeWarning, string(outcome.Reason), "AnnotateServiceAccount", "%.1000s", outcome.Message)
}

func (s *ServiceAccounts) forget(name types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.said, name)
}
