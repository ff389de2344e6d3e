package reader

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// recorder counts. All label sets are closed: route, status, check, cause.
type recorder struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	bytes     prometheus.Counter
	transfers prometheus.Gauge
	ready     prometheus.Gauge
	checks    *prometheus.GaugeVec
	failures  *prometheus.CounterVec
	expiry    prometheus.Gauge
}

func newRecorder() *recorder {
	const namespace = "bucket_access_reader"
	r := &recorder{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "requests_total", Help: "Requests by route and HTTP status."}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds", Help: "Time until a request was answered in full.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60}}, []string{"route"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "object_bytes_total", Help: "Bytes of objects that were sent."}),
		transfers: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "transfers", Help: "Transfers from S3 that are under way."}),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "access_proven", Help: "1 while the last proof of access went through."}),
		checks: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "check_ok", Help: "1 for each check that the last proof passed, 0 for the others."}, []string{"check"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "failures_total", Help: "Proofs and requests that failed, by cause."}, []string{"cause"}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "session_expiry_timestamp_seconds", Help: "When the session of the role ends."}),
	}
	r.registry.MustRegister(r.requests, r.duration, r.bytes, r.transfers, r.ready, r.checks, r.failures, r.expiry,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

func (r *recorder) handler() http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{})
}

func (r *recorder) request(route string, status int, took time.Duration) {
	r.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	r.duration.WithLabelValues(route).Observe(took.Seconds())
}

func (r *recorder) failure(cause diagnosis.Cause) { r.failures.WithLabelValues(string(cause)).Inc() }

func (r *recorder) proof(report *Report) {
	r.ready.Set(oneIf(report.Ready))
	for _, check := range report.Checks {
		r.checks.WithLabelValues(check.ID).Set(oneIf(check.State == OK))
	}
	if failed := report.failure(); failed != nil {
		r.failure(failed.Diagnosis.Cause)
	}
	if report.Identity != nil {
		r.expiry.Set(float64(report.Identity.Expires.Unix()))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
