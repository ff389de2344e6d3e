package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// gated is a body that waits in its middle until it is let go on.
type gated struct {
	before, after io.Reader
	gate          chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	if n, err := g.before.Read(p); n > 0 || !errors.Is(err, io.EOF) {
		return n, err
	}
	<-g.gate
	return g.after.Read(p)
}
func (*gated) Close() error { return nil }

// TestDrainLetsTransfersEnd: told to end, the reader takes no new connection, and what is
// under way comes whole.
func TestDrainLetsTransfersEnd(t *testing.T) {
	half := strings.Repeat("x", 100_000) // more than net/http holds back
	body := &gated{strings.NewReader(half), strings.NewReader(half), make(chan struct{})}
	s, log := newTestServer(t, injected(t, goodClaims()), objectOf(int64(2*len(half)), func(*http.Request) io.ReadCloser { return body }))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	address := listener.Addr().String()
	response, err := http.Get("http://" + address + "/s3/2026/x")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	stop()
	for range 100 {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		connection.Close()
		time.Sleep(20 * time.Millisecond)
	}
	if connection, err := net.Dial("tcp", address); err == nil {
		connection.Close()
		t.Error("a new connection is taken while draining")
	}
	close(body.gate)
	if got, err := io.ReadAll(response.Body); err != nil || len(got) != 2*len(half) {
		t.Errorf("%d bytes, %v: %s", len(got), err, log)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHeadersAreBounded: in size and in time.
func TestHeadersAreBounded(t *testing.T) {
	s, _ := newTestServer(t, injected(t, goodClaims()), transport(green))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(t.Context(), listener)
	request, _ := http.NewRequest(http.MethodGet, "http://"+listener.Addr().String()+"/healthz", http.NoBody)
	request.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("HTTP %d", response.StatusCode)
	}
	slow, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	fmt.Fprint(slow, "GET /healthz HTTP/1.1\r\nHost: lo") // and no more
	_ = slow.SetReadDeadline(time.Now().Add(3 * headerTimeout))
	if _, err := io.ReadAll(slow); err != nil {
		t.Errorf("a header that never ends is waited for: %v", err)
	}
}
