package reader

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// prover keeps the last report fresh: one proof at a time, whoever asks for it, so that
// probes and pages never reach AWS.
type prover struct {
	chain    *chain
	config   *Config
	recorder *recorder
	log      *slog.Logger
	last     atomic.Pointer[Report]
	again    chan struct{}
}

// firstRetry is the pause after a proof that failed; it doubles up to the interval.
const firstRetry = 2 * time.Second

// run proves until ctx ends: at the interval while access is there, sooner where not.
func (p *prover) run(ctx context.Context) {
	pause := firstRetry
	for {
		proof, cancel := context.WithTimeout(ctx, p.config.ProbeTimeout)
		report := p.chain.walk(proof)
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.note(report)
		switch before := p.last.Swap(report); {
		case report.Ready:
			pause = p.config.ProbeInterval
		case before == nil || before.Ready:
			pause = firstRetry
		default:
			pause = min(2*pause, p.config.ProbeInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.again: // soon, and still not more often than after a failure
			select {
			case <-ctx.Done():
				return
			case <-time.After(firstRetry):
			}
		case <-time.After(pause):
		}
	}
}

// note says in the log what has changed: the same state again is not worth a line.
func (p *prover) note(report *Report) {
	p.recorder.proof(report)
	before := p.last.Load()
	failed := report.failure()
	switch {
	case failed == nil && (before == nil || !before.Ready):
		p.log.Info("Access is proven", "bucket", report.Bucket, "role", report.Role)
	case failed == nil:
	case before == nil || before.failure() == nil || before.failure().Diagnosis.Cause != failed.Diagnosis.Cause:
		p.log.Warn("Access fails", "check", failed.ID, "cause", failed.Diagnosis.Cause, "title", failed.Diagnosis.Title,
			"detail", failed.Diagnosis.Detail, "fix", failed.Diagnosis.Fix)
	}
}

// report is the last one, or nil before the first. One that is older than it can be while
// run goes on is not believed any more.
func (p *prover) report(now time.Time) *Report {
	last := p.last.Load()
	if last == nil || !last.Ready || now.Sub(last.CheckedAt) <= 2*(p.config.ProbeInterval+p.config.ProbeTimeout) {
		return last
	}
	stale := *last
	stale.Ready = false
	return &stale
}

// ofTheRequest are causes that say something of one object or one request, and nothing of
// access as a whole.
var ofTheRequest = map[diagnosis.Cause]bool{
	diagnosis.KeyMissing: true, diagnosis.MissingOrNotGranted: true, diagnosis.Archived: true, diagnosis.KMSDenied: true, diagnosis.KMSKeyUnusable: true,
	diagnosis.CustomerKey: true, diagnosis.PreconditionFailed: true, diagnosis.RangeNotSatisfiable: true, diagnosis.BadParameter: true,
	diagnosis.Throttled: true, diagnosis.TimedOut: true, diagnosis.ServiceFailure: true,
}

// doubt makes the next proof come soon where a request has failed for a cause that the
// last proof does not know of.
func (p *prover) doubt(cause diagnosis.Cause) {
	if last := p.last.Load(); last == nil || !last.Ready || ofTheRequest[cause] {
		return
	}
	select {
	case p.again <- struct{}{}:
	default:
	}
}
