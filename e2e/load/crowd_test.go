package load

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// TestTenThousandConnections: silent ones, half-open ones, ones that send a byte a second. An
// API server's own go on being answered, so do its new ones, and memory stays in its bound.
func TestTenThousandConnections(t *testing.T) {
	webhook, _ := servers(t)
	body := review(t)
	kept := clientOf(false, 4)
	_, err := webhook.one(t.Context(), kept, body)
	must(t, err)
	idle := memory(t, webhook.pid)
	for name, open := range map[string]func(conn net.Conn){
		"half-open": func(net.Conn) {},
		"silent": func(conn net.Conn) {
			_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context())
		},
		"slow": func(conn net.Conn) {
			c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			_ = c.HandshakeContext(t.Context())
			for _, letter := range "POST /mutate/pods HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n" {
				if _, err := c.Write([]byte(string(letter))); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		},
	} {
		crowd := crowdOf(t, webhook.address, 10_000, open)
		answered, slowest := 0, time.Duration(0)
		for i := range 50 {
			client := kept
			if i%2 == 0 {
				client = clientOf(false, 1)
			}
			start := time.Now()
			if status, err := webhook.one(t.Context(), client, body); err != nil || status != http.StatusOK {
				t.Errorf("%s: request %d: %d, %v", name, i, status, err)
			} else {
				answered++
			}
			slowest = max(slowest, time.Since(start))
			if client != kept {
				client.CloseIdleConnections()
			}
		}
		used := memory(t, webhook.pid)
		t.Logf("10,000 %s connections: %d of 50 requests answered, the slowest in %s; %d MiB, %d MiB before", name, answered, slowest.Round(time.Millisecond), used>>20, idle>>20)
		const limit = 128 << 20 // the chart's
		if used > limit {
			t.Errorf("%d MiB", used>>20)
		}
		crowd()
	}
}

// crowdOf opens connections from ten addresses and keeps them as long as they are let.
func crowdOf(tb testing.TB, address string, n int, do func(net.Conn)) (leave func()) {
	tb.Helper()
	var mu sync.Mutex
	var conns []net.Conn
	var group sync.WaitGroup
	var next atomic.Int64
	for worker := range 50 {
		group.Go(func() {
			for int(next.Add(1)) <= n {
				dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+worker%10))}}
				conn, err := dialer.DialContext(tb.Context(), "tcp", address)
				if err != nil {
					continue
				}
				mu.Lock()
				conns = append(conns, conn)
				mu.Unlock()
				_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				if n > 0 {
					go do(conn)
				}
			}
		})
	}
	group.Wait()
	if len(conns) < n/2 {
		tb.Errorf("only %d connections could be opened", len(conns))
	}
	return func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

// memory is what a process has resident, in bytes.
func memory(tb testing.TB, pid int) int64 {
	tb.Helper()
	size, err := lab.Memory(pid, "VmRSS")
	must(tb, err)
	return size
}
