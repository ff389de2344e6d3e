package watch

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

const (
	// calmPause is how long news may wait for more: what wakes up for each of a hundred Pods in a
	// second costs ten times of what reads them all at once. The counts that are made of
	// them are made each five seconds.
	calmPause = 250 * time.Millisecond
	// calmBuffer is what is read without a pause in between: some 80 Pods, so that a crowd is read
	// as fast as it comes. Where a watcher is slower than that, an API server ends
	// its watch, and it begins anew from where it was.
	calmBuffer = 64 << 10
)

// Calm is a client's configuration for watches whose news may wait: each has a connection of its
// own, which is left alone for a moment after it was read. With HTTP/2 a goroutine of the
// transport would read on. Where a peer is gone without a word, TCP's keepalives find out.
func Calm(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	dial := config.Dial
	if dial == nil {
		dialer := &net.Dialer{
			Timeout:         30 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3},
		}
		dial = dialer.DialContext
	}
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newCalmConn(conn, calmPause), nil
	}
	config.NextProtos = []string{"http/1.1"}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return onceOnly{next} })
	return config
}

// onceOnly has each request use a connection of its own: one that died while it rested would
// keep a new watch waiting until the kernel gives up, a quarter of an hour.
type onceOnly struct{ http.RoundTripper }

// RoundTrip leaves the request as it is.
func (o onceOnly) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Close = true
	return o.RoundTripper.RoundTrip(request)
}

// calmConn reads from the network at most once in a pause, but where there is more than fits.
type calmConn struct {
	net.Conn
	pause  time.Duration
	buffer []byte
	unread []byte // of buffer
	next   time.Time
	closed chan struct{}
	close  func() error
}

func newCalmConn(conn net.Conn, pause time.Duration) *calmConn {
	c := &calmConn{Conn: conn, pause: pause, buffer: make([]byte, calmBuffer), closed: make(chan struct{})}
	c.close = sync.OnceValue(func() error {
		close(c.closed)
		return conn.Close()
	})
	return c
}

// Read is for one goroutine at a time, as TLS calls it.
func (c *calmConn) Read(into []byte) (int, error) {
	if len(c.unread) == 0 {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(into, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

func (c *calmConn) fill() error {
	if wait := time.Until(c.next); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.closed: // reading on tells so
		}
	}
	n, err := c.Conn.Read(c.buffer)
	c.unread = c.buffer[:n]
	if n < len(c.buffer) {
		c.next = time.Now().Add(c.pause)
	}
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// Close ends a pause, too.
func (c *calmConn) Close() error { return c.close() }
