package watch

import (
	"strconv"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/tools/events"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Reporter says what is wrong with policies: a gauge and a log line on every
// replica, an Event on the ConfigMap from the leader. Each fault is said once,
// until it changes.
type Reporter struct {
	Events   events.EventRecorder
	Recorder *metrics.Recorder
	Log      logr.Logger
	// Leading says whether this replica writes the Events.
	Leading func() bool

	logged, announced map[string]fault
}

// fault is one thing to say about one data key.
type fault struct {
	source policy.Ref
	key    string
	reason string
	text   string
}

func (f fault) id() string { return f.source.UID + "/" + f.key }

// maxNote bounds an Event's note; the API server takes 1,024 bytes.
const maxNote = 1000

// Report is called with each snapshot, never twice at once.
func (r *Reporter) Report(snapshot *policy.Snapshot, cluster decide.Cluster) {
	faults, counts := examine(snapshot, cluster)
	r.Recorder.Policies(counts)
	r.logged = say(faults, r.logged, func(f fault) {
		r.Log.Info("Policy is not in force as written", "configMap", f.source.Name, "key", f.key, "reason", f.reason, "errors", f.text)
	}, func(f fault) {
		r.Log.Info("Policy is mended", "configMap", f.source.Name, "key", f.key)
	})
	if !r.Leading() {
		r.announced = nil // a later leadership begins anew
		return
	}
	r.announced = say(faults, r.announced, func(f fault) {
		r.Events.Eventf(regarding(snapshot, f), nil, corev1.EventTypeWarning, f.reason, "LoadPolicy", "%s", f.text)
	}, func(f fault) {
		if _, still := snapshotHas(snapshot, f); still {
			r.Events.Eventf(regarding(snapshot, f), nil, corev1.EventTypeNormal, "PolicyMended", "LoadPolicy", "data[%s] is in force again as written", f.key)
		}
	})
}

// say calls now for every fault that was not said before in these words, and gone
// for every one that was said and is no more.
func say(faults []fault, before map[string]fault, now, gone func(fault)) map[string]fault {
	said := make(map[string]fault, len(faults))
	for _, f := range faults {
		if before[f.id()] != f {
			now(f)
		}
		said[f.id()] = f
	}
	for id, f := range before {
		if _, still := said[id]; !still {
			gone(f)
		}
	}
	return said
}

func snapshotHas(snapshot *policy.Snapshot, f fault) (*policy.Entry, bool) {
	name, bad := policy.Name(f.key)
	if bad != nil {
		return nil, false
	}
	entry, known := snapshot.Lookup(name)
	return entry, known && entry.Source.UID == f.source.UID
}

func examine(snapshot *policy.Snapshot, cluster decide.Cluster) ([]fault, map[metrics.PolicyState]int) {
	var faults []fault
	counts := map[metrics.PolicyState]int{}
	for _, entry := range snapshot.Entries() {
		switch {
		case entry.LastGood():
			counts[metrics.PolicyLastGood]++
			faults = append(faults, fault{entry.Source, entry.Key, "InvalidPolicy", note(entry.Errors,
				"; the last good version stays in force, so a subject removed by this edit still has access")})
		case len(entry.Errors) > 0:
			counts[metrics.PolicyInvalid]++
			faults = append(faults, fault{entry.Source, entry.Key, "InvalidPolicy", note(entry.Errors,
				"; there is no earlier good version, so requests for it are refused")})
		case entry.Policy.Issuer != "" && cluster.Issuer != "" && entry.Policy.Issuer != cluster.Issuer:
			counts[metrics.PolicyIssuerMismatch]++
			faults = append(faults, fault{entry.Source, entry.Key, "IssuerMismatch", "data[" + entry.Key + "].issuer is " + entry.Policy.Issuer +
				", but this cluster's token issuer is " + cluster.Issuer + "; requests for the policy are refused here"})
		default:
			counts[metrics.PolicyValid]++
		}
	}
	for _, problem := range snapshot.Problems() {
		state, reason := metrics.PolicyInvalid, "InvalidPolicy"
		if problem.Duplicate {
			state, reason = metrics.PolicyDuplicate, "DuplicatePolicy"
		}
		counts[state]++
		faults = append(faults, fault{problem.Source, problem.Key, reason, note(problem.Errors, "")})
	}
	return faults, counts
}

// note joins all errors; where they are too long together, what follows from them
// still fits.
func note(errs field.ErrorList, consequence string) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	text := strings.Join(texts, "; ")
	if room := maxNote - len(consequence); len(text) > room {
		text = strings.ToValidUTF8(text[:room-3], "") + "..."
	}
	return text + consequence
}

// regarding names the data key of the ConfigMap.
func regarding(snapshot *policy.Snapshot, f fault) *corev1.ObjectReference {
	return Reference(snapshot, f.source, f.key)
}

// Reference names a data key of a ConfigMap, as it is in the snapshot: Events that differ in
// their note alone are one for client-go, whose count is raised and whose note stays the old
// one, so the version stands in what they regard or relate to.
func Reference(snapshot *policy.Snapshot, source policy.Ref, key string) *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: "v1", Kind: "ConfigMap", Namespace: source.Namespace, Name: source.Name, UID: types.UID(source.UID),
		ResourceVersion: strconv.FormatUint(snapshot.SourceVersion(source), 10), FieldPath: "data[" + key + "]",
	}
}
