// Package metrics is the one recorder of what happened. All labels are closed sets:
// a value outside of its set is counted as "other", so that no request can grow a
// metric.
package metrics
