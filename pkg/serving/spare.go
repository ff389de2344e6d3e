package serving

import (
	"io"
	"time"
)

// Phases of a connection. An API server opens one for a request that another connection, free
// by then, takes; it keeps the new one for later, and never sends again what meets it on its
// end. So until the first byte it may rest for as long as any other; net/http would close it
// after the time of a header.
const (
	handshake int32 = iota
	unused          // the handshake is over
	spare           // the HTTP server waits for the first request
	used
)

// SetReadDeadline is what the HTTP server calls before the handshake, with nothing after it,
// and then before the first header.
func (c *peerConn) SetReadDeadline(deadline time.Time) error {
	switch {
	case deadline.IsZero():
		c.phase.CompareAndSwap(handshake, unused)
	case c.phase.CompareAndSwap(unused, spare):
		deadline = time.Now().Add(idleTimeout)
	}
	return c.Conn.SetReadDeadline(deadline)
}

// Read starts the time of the first header with its first byte. In the handshake it reads no
// further than TLS must: else that byte could come with the handshake's last and go unnoticed.
func (c *peerConn) Read(into []byte) (int, error) {
	if c.phase.Load() == handshake {
		return c.records.read(c.Conn, into)
	}
	n, err := c.Conn.Read(into)
	if n > 0 && c.phase.CompareAndSwap(spare, used) {
		_ = c.Conn.SetReadDeadline(time.Now().Add(headerTimeout)) // of a connection that was closed: the next read says so
	}
	return n, err
}

// records reads one TLS record after the other: 5 bytes, of which the last two are the length
// of what follows.
type records struct {
	header [5]byte
	had    int // of the header
	left   int // of what follows
}

func (r *records) read(from io.Reader, into []byte) (int, error) {
	wanted := r.left
	if wanted == 0 {
		wanted = len(r.header) - r.had
	}
	n, err := from.Read(into[:min(len(into), wanted)])
	if r.left > 0 {
		r.left -= n
		return n, err
	}
	if r.had += copy(r.header[r.had:], into[:n]); r.had == len(r.header) {
		r.had, r.left = 0, int(r.header[3])<<8|int(r.header[4])
	}
	return n, err
}
