package watch

import (
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
)

// client-go logs each failure of a reflector. A replica asks an API server again within a second,
// for as long as it is down, or as a right is missing.
const (
	failuresAtOnce = 5
	failuresEvery  = time.Minute
)

// sparing is a log that passes over errors beyond the first few, but for one each minute.
func sparing(log logr.Logger) logr.Logger {
	if log.GetSink() == nil {
		return log
	}
	return log.WithSink(&sparingSink{log.GetSink(), rate.NewLimiter(rate.Every(failuresEvery), failuresAtOnce)})
}

type sparingSink struct {
	logr.LogSink

	limit *rate.Limiter
}

// Error logs an error, if it is one of the few.
func (s *sparingSink) Error(err error, message string, keysAndValues ...any) {
	if s.limit.Allow() {
		s.LogSink.Error(err, message, keysAndValues...)
	}
}

// WithValues spares with the same bound.
func (s *sparingSink) WithValues(keysAndValues ...any) logr.LogSink {
	return &sparingSink{s.LogSink.WithValues(keysAndValues...), s.limit}
}

// WithName spares with the same bound.
func (s *sparingSink) WithName(name string) logr.LogSink {
	return &sparingSink{s.LogSink.WithName(name), s.limit}
}
