package certs

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
)

// CAFile writes a CA that somebody else keeps in a file into the webhook
// configurations. It never drops one that is still valid: when a new one came into use
// can't be known from the file.
type CAFile struct {
	path           string
	configurations Configurations
	clock          *Clock
	log            logr.Logger
	changed        chan struct{}
}

// fileLookAgain is short: a kubelet renews a Secret's files without telling.
const fileLookAgain = 10 * time.Second

// NewCAFile reads the PEM file at path; the clock is that of the configurations' client.
func NewCAFile(path string, configurations Configurations, clock *Clock, log logr.Logger) *CAFile {
	return &CAFile{path: path, configurations: configurations, clock: clock, log: log, changed: make(chan struct{}, 1)}
}

// Changed tells that a webhook configuration is not what it was.
func (f *CAFile) Changed() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Start keeps the bundles until ctx ends.
func (f *CAFile) Start(ctx context.Context) error {
	reported := ""
	for ctx.Err() == nil {
		text := ""
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			if text = err.Error(); text != reported {
				f.log.Error(err, "Writing the CA failed and is tried again")
			}
		}
		reported = text
		select {
		case <-ctx.Done():
		case <-f.changed:
		case <-time.After(fileLookAgain):
		}
	}
	return nil
}

func (f *CAFile) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("the CA's file: %w", err)
	}
	ca := parse(text)
	if len(ca) == 0 {
		return fmt.Errorf("the CA's file %s holds no certificate; it must be PEM, one or more", f.path)
	}
	written, _, err := f.configurations.Sync(ctx, ca, f.clock.Now(), 0)
	if written > 0 {
		f.log.Info("Wrote the CA into the webhook configurations", "entries", written, "notAfter", ca[0].NotAfter)
	}
	return err
}
