package serving

import (
	"net/http"
	"strconv"
	"sync"
)

// wholeWriter sends an answer that is written at once, and whose Content-Length says so, by
// one system call. net/http's own 4 KiB make two or three of it, which for the answer that
// injects a typical Pod (8 KB) is a fifth of what the request costs. HTTP/1 only: an HTTP/2
// connection has other answers under way.
type wholeWriter struct {
	http.ResponseWriter

	conn *peerConn
}

// Unwrap is for http.ResponseController.
func (w *wholeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write writes all of an answer, or a part as ever.
func (w *wholeWriter) Write(p []byte) (int, error) {
	if w.Header().Get("Content-Length") != strconv.Itoa(len(p)) {
		return w.ResponseWriter.Write(p)
	}
	w.conn.hold()
	n, err := w.ResponseWriter.Write(p)
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if failed := w.conn.release(); err == nil {
		err = failed
	}
	return n, err
}

// held is what was written to a connection meanwhile; maxHeld is as much of it as is kept for
// another.
var held = sync.Pool{New: func() any { return new([]byte) }}

const maxHeld = 64 << 10

// hold keeps back what is written until release.
func (c *peerConn) hold() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.held, _ = held.Get().(*[]byte)
}

// release sends what was kept back.
func (c *peerConn) release() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.Conn.Write(*c.held)
	if cap(*c.held) <= maxHeld {
		*c.held = (*c.held)[:0]
		held.Put(c.held)
	}
	c.held = nil
	return err
}

// Write writes to the connection, or to what is held back.
func (c *peerConn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.held == nil {
		return c.Conn.Write(p)
	}
	*c.held = append(*c.held, p...)
	return len(p), nil
}
