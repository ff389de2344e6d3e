package certs

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// tolerance is how far this machine's clock may be from the API server's. A new
// certificate is served when it is older than that (Options.Settle), so an API
// server that is behind by less still finds it valid.
const tolerance = 10 * time.Second

// Clock is the API server's: it verifies our certificate, so its time counts. It is
// read off the Date header of its answers and carried on by the monotonic clock, which
// does not move when the wall clock of this machine is set.
type Clock struct {
	wall func() time.Time
	last atomic.Pointer[reading]
}

type reading struct{ server, at time.Time }

// NewClock makes a clock that has yet to hear from the API server.
func NewClock() *Clock { return &Clock{wall: time.Now} }

// Now is the API server's time, to about a second; this machine's until it is known.
func (c *Clock) Now() time.Time {
	if last := c.last.Load(); last != nil {
		return last.server.Add(time.Since(last.at))
	}
	return c.wall()
}

// Disagrees says by how much this machine's clock is wrong, nil while it is not.
func (c *Clock) Disagrees() error {
	if c.last.Load() == nil {
		return errors.New("the API server's clock is not known yet")
	}
	off := c.wall().Round(0).Sub(c.Now().Round(0)).Round(time.Second)
	if off.Abs() <= tolerance {
		return nil
	}
	return fmt.Errorf("this machine's clock is %s off the API server's (more than %s): no certificate is made or replaced until they agree", off, tolerance)
}

// Wrap reads the clock off every answer, and lets nothing be written by a process
// whose clock is wrong: it would replace a CA that all others find good.
func (c *Clock) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.Method != http.MethodGet {
			if err := c.Disagrees(); err != nil {
				return nil, err
			}
		}
		response, err := next.RoundTrip(request)
		if err != nil {
			return nil, err
		}
		// The header has whole seconds, cut off: half of one is the best guess.
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			c.last.Store(&reading{server: date.Add(time.Second / 2), at: time.Now()})
		}
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }
