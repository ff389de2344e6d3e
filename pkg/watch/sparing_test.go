package watch

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
)

// TestAnOutageFillsNoLog: the first failures are told, and then one each minute, of whatever part
// of the log; other news is not spared.
func TestAnOutageFillsNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := 0
		log := sparing(funcr.New(func(string, string) { lines++ }, funcr.Options{}))
		for range 600 { // ten minutes
			log.WithName("UnhandledError").WithValues("a", "b").Error(errors.New("forbidden"), "Failed to watch")
			time.Sleep(time.Second)
		}
		if want := failuresAtOnce + 9; lines < want || lines > want+1 {
			t.Errorf("%d lines, want %d", lines, want)
		}
		lines = 0
		for range 20 {
			log.Info("Policies loaded")
		}
		if lines != 20 {
			t.Errorf("%d lines of other news", lines)
		}
	})
	sparing(logr.Discard()).Error(nil, "to nobody")
}
