package reader

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// progress guards a transfer: one that moves no byte for a time is ended, whichever side
// it is that stalls, and one that moves may take as long as it likes. A deadline for each
// write could not tell: a write returns only when a good part of the kernel's buffer of
// some megabytes is free, which a slow client takes minutes for.
type progress struct {
	sent  atomic.Int64 // bytes that were handed to the kernel
	ended chan struct{}
}

type connectionKey struct{}

// withConnection keeps the connection for the guard (http.Server.ConnContext).
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// looks is how often a guard looks within the time that it allows.
const looks = 4

// guardProgress calls give up once, when for so long neither a byte was sent nor one left
// the kernel's buffer.
func guardProgress(ctx context.Context, allowed time.Duration, giveUp func()) *progress {
	p := &progress{ended: make(chan struct{})}
	connection, _ := ctx.Value(connectionKey{}).(net.Conn)
	go func() {
		ticker := time.NewTicker(allowed / looks)
		defer ticker.Stop()
		type state struct {
			sent  int64
			queue int
		}
		last, since := state{}, time.Now()
		for {
			select {
			case <-p.ended:
				return
			case now := <-ticker.C:
				if current := (state{p.sent.Load(), unsent(connection)}); current != last {
					last, since = current, now
				} else if now.Sub(since) >= allowed {
					giveUp()
					return
				}
			}
		}
	}()
	return p
}

func (p *progress) stop() { close(p.ended) }
