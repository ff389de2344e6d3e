package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

const namespace = "bucket_access"

// PolicyState is the state of one policy entry.
type PolicyState string

// The states of a policy entry.
const (
	PolicyValid          PolicyState = "valid"
	PolicyLastGood       PolicyState = "last_good"       // invalid, an earlier version is in force
	PolicyInvalid        PolicyState = "invalid"         // invalid, nothing in force
	PolicyDuplicate      PolicyState = "duplicate"       // another ConfigMap defines the name
	PolicyIssuerMismatch PolicyState = "issuer_mismatch" // valid, but for another cluster
)

// PolicyStates lists every state.
func PolicyStates() []PolicyState {
	return []PolicyState{PolicyValid, PolicyLastGood, PolicyInvalid, PolicyDuplicate, PolicyIssuerMismatch}
}

// Result is how an attempt ended.
type Result string

// The results.
const (
	Succeeded Result = "success"
	Failed    Result = "error"
	Limited   Result = "limited"
)

// Recorder counts. Make one with New; a process has one.
type Recorder struct {
	admissions *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	warnings   *prometheus.CounterVec
	policies   *prometheus.GaugeVec
	liveReads  *prometheus.CounterVec
	accounts   *prometheus.CounterVec
	records    *prometheus.CounterVec
	refused    prometheus.Counter
	pods       *pods
}

// New makes a recorder and registers its metrics.
func New(registry prometheus.Registerer) *Recorder {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
		registry.MustRegister(vec)
		return vec
	}
	r := &Recorder{
		admissions: counter("admissions_total", "Admission requests answered, by entry, verdict and reason.", "entry", "verdict", "reason"),
		warnings:   counter("admission_warnings_total", "Admission warnings given, by entry and reason.", "entry", "reason"),
		liveReads:  counter("live_reads_total", "Reads that went to the API server because the cache disagreed, by kind and result.", "kind", "result"),
		accounts:   counter("serviceaccount_reconciles_total", "ServiceAccounts reconciled, by verdict and reason.", "verdict", "reason"),
		records:    counter("last_good_writes_total", "Writes of the ConfigMap that keeps last good documents, by result.", "result"),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "admission_duration_seconds", Help: "Time to answer an admission request, by entry.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 5},
		}, []string{"entry"}),
		policies: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "policies", Help: "Policy entries, by state.",
		}, []string{"state"}),
	}
	r.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: namespace, Name: "connections_refused_total", Help: "Connections that were turned away, or gave way to another address's, as there were too many.",
	})
	r.pods = newPods()
	registry.MustRegister(r.durations, r.policies, r.refused, r.pods.gauge)
	for _, state := range PolicyStates() {
		r.policies.WithLabelValues(string(state))
	}
	for _, entry := range admission.Entries() {
		r.durations.WithLabelValues(string(entry))
	}
	return r
}

// Admission counts one answered request.
func (r *Recorder) Admission(entry admission.Entry, kind decide.Kind, reason decide.Reason, took time.Duration) {
	r.admissions.WithLabelValues(string(entry), string(kind), string(reason)).Inc()
	r.durations.WithLabelValues(string(entry)).Observe(took.Seconds())
}

// Warning counts one admission warning.
func (r *Recorder) Warning(entry admission.Entry, reason inject.WarningReason) {
	r.warnings.WithLabelValues(string(entry), string(reason)).Inc()
}

// ConnectionRefused counts one connection that there was no room for.
func (r *Recorder) ConnectionRefused() { r.refused.Inc() }

// Policies sets the number of entries in each state.
func (r *Recorder) Policies(counts map[PolicyState]int) {
	for _, state := range PolicyStates() {
		r.policies.WithLabelValues(string(state)).Set(float64(counts[state]))
	}
}

// LiveRead counts one read of a kind (namespace, serviceaccount, policies, pods).
func (r *Recorder) LiveRead(kind string, result Result) {
	r.liveReads.WithLabelValues(kind, string(result)).Inc()
}

// Account counts one reconciled ServiceAccount.
func (r *Recorder) Account(kind decide.Kind, reason decide.Reason) {
	r.accounts.WithLabelValues(string(kind), string(reason)).Inc()
}

// LastGoodWrite counts one write of the last good documents.
func (r *Recorder) LastGoodWrite(result Result) {
	r.records.WithLabelValues(string(result)).Inc()
}

// CertificateExpiry registers the time at which the serving certificate ends; at
// is asked on each scrape and returns the zero time while there is none.
func CertificateExpiry(registry prometheus.Registerer, at func() time.Time) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "certificate_expiry_timestamp_seconds",
		Help: "When the serving certificate ends, in seconds since the epoch; 0 while there is none.",
	}, func() float64 {
		if end := at(); !end.IsZero() {
			return float64(end.Unix())
		}
		return 0
	}))
}
