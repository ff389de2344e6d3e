package serving

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestACrowdKeepsNobodyOut: a few addresses hold all connections, with and without a request;
// a newcomer is answered, and so is who was there before; the crowd never has more than there
// is room for.
func TestACrowdKeepsNobodyOut(t *testing.T) {
	const room = 50
	for name, dawdle := range map[string]func(net.Conn){
		"half-open": func(net.Conn) {},
		"silent": func(conn net.Conn) {
			_ = tls.Client(conn, insecure()).HandshakeContext(t.Context()) // some are turned away
		},
		"slow": func(conn net.Conn) {
			c := tls.Client(conn, insecure())
			_, _ = c.Write([]byte("POST /length HTTP/1.1\r\nHost: x\r\n")) // and no more
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(o *Options) { o.Connections = room })
			early := s.client(insecure(), false)
			if said, err := post(t, early, s, "x"); err != nil {
				t.Fatal(said, err)
			}
			for i := range 4 * room {
				dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%3))}}
				conn, err := dialer.DialContext(t.Context(), "tcp", s.address)
				must(t, err)
				t.Cleanup(func() { _ = conn.Close() })
				must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
				dawdle(conn)
			}
			for i := range 10 {
				config := insecure()
				client := s.client(config, i%2 == 0)
				if said, err := post(t, client, s, "x"); err != nil {
					t.Errorf("a newcomer: %q, %v", said, err)
				}
				if said, err := post(t, early, s, "x"); err != nil {
					t.Errorf("who was there before: %q, %v", said, err)
				}
			}
			if n := s.refused.Load(); n < 2*room {
				t.Errorf("%d connections were refused", n)
			}
		})
	}
}

// fakeConn is a connection of an address.
type fakeConn struct {
	net.Conn

	closed bool
}

func (f *fakeConn) Close() error { f.closed = true; return nil }

// TestOneAddressHasAllTheRoomThereIs, and its busy connections are not taken from it.
func TestOneAddressHasAllTheRoomThereIs(t *testing.T) {
	l := newFairListener(nil, 3, func() {})
	admit := func(address string) (*peerConn, net.Conn, bool) {
		c := &peerConn{Conn: &fakeConn{}, listener: l, from: netip.MustParseAddr(address)}
		leaves, admitted := l.admit(c)
		return c, leaves, admitted
	}
	var first []*peerConn
	for i := range 3 {
		c, leaves, admitted := admit("10.0.0.1")
		if leaves != nil || !admitted {
			t.Fatalf("connection %d: %v, %t", i, leaves, admitted)
		}
		first = append(first, c)
	}
	if c, leaves, admitted := admit("10.0.0.1"); admitted || leaves != c.Conn {
		t.Error("one address drove its own connections out")
	}
	for _, c := range first {
		c.busy.Add(1)
	}
	if _, _, admitted := admit("10.0.0.2"); admitted {
		t.Error("a busy connection was taken")
	}
	first[1].busy.Add(-1)
	other, leaves, admitted := admit("10.0.0.2")
	if !admitted || leaves != first[1].Conn {
		t.Error("the idle connection did not give way")
	}
	if _, _, admitted := admit("10.0.0.2"); admitted {
		t.Error("an address got more than its share of those that are busy")
	}
	must(t, first[1].Close()) // which counts no more
	must(t, other.Close())
	must(t, other.Close())
	if l.open != 2 || len(l.peers) != 1 {
		t.Errorf("%d open from %d addresses", l.open, len(l.peers))
	}
}

// TestTheOldestGivesWay, and before it the oldest of those that have not had a request.
func TestTheOldestGivesWay(t *testing.T) {
	const room = 40
	l := newFairListener(nil, room, func() {})
	admit := func(address string) (*peerConn, net.Conn) {
		c := &peerConn{Conn: &fakeConn{}, listener: l, from: netip.MustParseAddr(address)}
		leaves, admitted := l.admit(c)
		if !admitted {
			t.Fatalf("a connection from %s was turned away", address)
		}
		return c, leaves
	}
	var unused, used []*peerConn
	for i := range room {
		c, _ := admit("10.0.0.1")
		if i%2 == 0 {
			c.served.Store(true)
			used = append(used, c)
		} else {
			unused = append(unused, c)
		}
	}
	for i, spared := range append(unused, used...)[:room/2+room/4] {
		if _, leaves := admit(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}).String()); leaves != spared.Conn {
			t.Errorf("not connection %d gave way to newcomer %d", spared.number, i)
		}
	}
}
