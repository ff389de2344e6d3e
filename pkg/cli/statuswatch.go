package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// unnoticed is how long a wait may be until a person at a terminal is told what is waited for.
const unnoticed = time.Second

// watcher reads and prints, once or until it is interrupted.
type watcher struct {
	*statusOptions

	source   *status.Source
	screen   *screen
	errors   io.Writer
	progress *progress
	args     []string

	before string // what was printed last
	failed string // what a read failed with last
}

func (w *watcher) run(ctx context.Context) error {
	err := w.once(ctx)
	if !w.watch {
		return err
	}
	for ctx.Err() == nil { // it ends when it is interrupted, perhaps in the middle of a read
		switch {
		case err == nil || errors.Is(err, errFindings):
			w.failed = ""
		case w.before == "": // it has never worked
			return err
		case err.Error() != w.failed:
			w.failed = err.Error()
			fmt.Fprintln(w.errors, "error:", w.failed+"; it is tried again")
		}
		select {
		case <-ctx.Done():
		case <-time.After(w.interval):
			err = w.once(ctx)
		}
	}
	return nil
}

// once reads, and prints what is another than before.
func (w *watcher) once(ctx context.Context) error {
	w.progress.after(unnoticed, "reading policies and Pods …")
	facts, err := w.source.Read(ctx)
	w.progress.clear()
	if err != nil {
		return w.explain(err)
	}
	var b strings.Builder
	drawn := *w.screen
	drawn.Writer = &b
	err = w.print(&drawn, facts, w.source.Namespace, w.args)
	if text := b.String(); text != w.before {
		if w.before != "" && w.screen.interactive() {
			fmt.Fprint(w.screen, "\x1b[H\x1b[2J") // like watch(1)
		}
		fmt.Fprint(w.screen, text)
		w.before = text
	}
	return err
}
