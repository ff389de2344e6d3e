package serving

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// fairListener bounds the connections that are open at once. Where the bound is reached, an
// address with fewer connections than another takes the place of one of that address's, as
// long as no request is being answered on it: so a crowd from a few addresses, whatever it
// does, keeps no API server out.
type fairListener struct {
	net.Listener

	limit   int
	refused func() // is told of each connection that was turned away or gave way

	mu       sync.Mutex
	open     int
	admitted uint64
	peers    map[netip.Addr]map[*peerConn]struct{}
}

// peerConn is a connection that counts for its address until it is closed.
type peerConn struct {
	net.Conn

	listener *fairListener
	from     netip.Addr
	number   uint64       // the younger, the higher
	busy     atomic.Int32 // requests that are being answered
	served   atomic.Bool  // it has had one
	once     sync.Once

	writing sync.Mutex
	held    *[]byte // what is to be sent together
}

func newFairListener(inner net.Listener, limit int, refused func()) *fairListener {
	return &fairListener{Listener: inner, limit: limit, refused: refused, peers: map[netip.Addr]map[*peerConn]struct{}{}}
}

// Accept returns the next connection that there is room for.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &peerConn{Conn: inner, listener: l, from: addressOf(inner)}
		leaves, admitted := l.admit(c)
		if leaves != nil {
			l.refused()
			_ = leaves.Close()
		}
		if admitted {
			return c, nil
		}
	}
}

// admit takes a connection in, and says which one leaves: another, or itself.
func (l *fairListener) admit(c *peerConn) (leaves net.Conn, admitted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.limit {
		other := l.mostGreedy(len(l.peers[c.from]) + 1)
		if other == nil {
			return c.Conn, false
		}
		l.remove(other)
		leaves = other.Conn
	}
	if l.peers[c.from] == nil {
		l.peers[c.from] = map[*peerConn]struct{}{}
	}
	l.peers[c.from][c] = struct{}{}
	l.open++
	l.admitted++
	c.number = l.admitted
	return leaves, true
}

// mostGreedy is the connection that can be spared of the address with the most, where these
// are more than atLeast: first one that has not had a request, else one that rests; of those
// the oldest.
func (l *fairListener) mostGreedy(atLeast int) (spared *peerConn) {
	most := atLeast
	for _, conns := range l.peers {
		if len(conns) <= most {
			continue
		}
		var found *peerConn
		for c := range conns {
			if c.busy.Load() == 0 && (found == nil || c.before(found)) {
				found = c
			}
		}
		if found != nil {
			spared, most = found, len(conns)
		}
	}
	return spared
}

// before says which of two connections is spared rather.
func (c *peerConn) before(other *peerConn) bool {
	if one, two := c.served.Load(), other.served.Load(); one != two {
		return two
	}
	return c.number < other.number
}

// answering wraps a handler: while it runs, its connection is not spared. What comes before
// it, a header that never ends for one, is no reason to keep a connection.
func answering(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ours := r.Context().Value(connKey{}).(*peerConn); ours {
			c.served.Store(true)
			c.busy.Add(1)
			defer c.busy.Add(-1)
			if r.ProtoMajor == 1 {
				w = &wholeWriter{ResponseWriter: w, conn: c}
			}
		}
		handler.ServeHTTP(w, r)
	})
}

// connKey is that of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	if wrapped, is := conn.(*tls.Conn); is {
		if c, ours := wrapped.NetConn().(*peerConn); ours {
			return context.WithValue(ctx, connKey{}, c)
		}
	}
	return ctx
}

// remove forgets a connection. It holds the lock already.
func (l *fairListener) remove(c *peerConn) {
	if _, known := l.peers[c.from][c]; !known {
		return
	}
	l.open--
	if delete(l.peers[c.from], c); len(l.peers[c.from]) == 0 {
		delete(l.peers, c.from)
	}
}

// Close closes the connection and makes room for another.
func (c *peerConn) Close() error {
	c.once.Do(func() {
		c.listener.mu.Lock()
		defer c.listener.mu.Unlock()
		c.listener.remove(c)
	})
	return c.Conn.Close()
}

func addressOf(conn net.Conn) netip.Addr {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // all of these share one
	}
	return from.Addr().Unmap().WithZone("")
}
