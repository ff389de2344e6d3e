package reader

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
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
		case <-p.again:
			pause = firstRetry
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

// ask makes the next proof come now, for a request that has just failed.
func (p *prover) ask() {
	select {
	case p.again <- struct{}{}:
	default:
	}
}
