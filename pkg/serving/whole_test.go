package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// countedConn counts the system calls that write.
type countedConn struct {
	net.Conn

	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

type countedListener struct {
	net.Listener

	writes *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l.writes}, err
}

// TestAnAnswerIsSentAtOnce: whatever its size, an answer whose length is said takes one write,
// and arrives as it is; one that is written in parts arrives too, and so does HTTP/2's.
func TestAnAnswerIsSentAtOnce(t *testing.T) {
	var writes atomic.Int64
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	s := New(Options{HTTP2: true, TLS: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate(t)}}})
	s.Register("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		text := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		if r.Method == http.MethodPost { // in parts
			_, _ = w.Write(text[:size/2])
			_, _ = w.Write(text[size/2:])
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(text)
	}))
	config, err := s.tls()
	must(t, err)
	server := s.http(t.Context())
	go func() {
		_ = server.Serve(tls.NewListener(newFairListener(countedListener{inner, &writes}, 10, func() {}), config))
	}()
	t.Cleanup(func() { _ = server.Close() })
	for _, http2 := range []bool{false, true} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: http2}}
		get := func(method string, size int) {
			t.Helper()
			request, err := http.NewRequestWithContext(context.Background(), method, "https://"+inner.Addr().String()+"/"+strconv.Itoa(size), http.NoBody)
			must(t, err)
			response, err := client.Do(request)
			must(t, err)
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			must(t, err)
			if want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]; !bytes.Equal(text, want) {
				t.Fatalf("%s of %d bytes, HTTP/2 %t: %d bytes, other ones", method, size, http2, len(text))
			}
		}
		get(http.MethodGet, 1) // the handshake
		for _, size := range []int{1, 100, 2047, 2048, 4000, 4096, 8192, 16384, 60_000} {
			before := writes.Load()
			get(http.MethodGet, size)
			if used := writes.Load() - before; !http2 && used != 1 {
				t.Errorf("an answer of %d bytes took %d writes", size, used)
			}
			get(http.MethodPost, size)
		}
	}
}
