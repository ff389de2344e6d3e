package reader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// brokenBody ends early, late, or with a wrong checksum.
type brokenBody struct {
	io.Reader
	err error
}

func (b *brokenBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) && b.err != nil {
		err = b.err
	}
	return n, err
}
func (*brokenBody) Close() error { return nil }

// objectOf answers for S3 with an object of that length, -1 for none announced.
func objectOf(length int64, body func(*http.Request) io.ReadCloser) transport {
	return func(service, operation string, r *http.Request) (*http.Response, error) {
		if operation != "GetObject" {
			return green(service, operation, r)
		}
		response := answer(200, "")
		response.Body, response.ContentLength = body(r), length
		if length >= 0 {
			response.Header.Set("Content-Length", strconv.FormatInt(length, 10))
		}
		return response, nil
	}
}

// TestABrokenTransferNeverLooksWhole: whatever goes wrong behind the header, the client
// gets a broken connection and not all the bytes.
func TestABrokenTransferNeverLooksWhole(t *testing.T) {
	content := strings.Repeat("x", 3*largeBuffer)
	for name, body := range map[string]io.Reader{
		"S3 ends early":           strings.NewReader(content[:2*largeBuffer]),
		"S3 breaks":               &brokenBody{strings.NewReader(content[:2*largeBuffer]), io.ErrUnexpectedEOF},
		"more than was announced": strings.NewReader(content + "y"),
		"wrong at the very end":   &brokenBody{strings.NewReader(content), errors.New("checksum did not match")},
	} {
		t.Run(name, func(t *testing.T) {
			s, log := newTestServer(t, injected(t, goodClaims()), objectOf(int64(len(content)), func(*http.Request) io.ReadCloser { return io.NopCloser(body) }))
			server := serve(s)
			defer server.Close()
			response, err := http.Get(server.URL + "/s3/2026/x")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err == nil || len(got) >= len(content) {
				t.Errorf("%d of %d bytes without an error: the transfer looks whole", len(got), len(content))
			}
			server.Close() // and with it the handler's last word
			if !strings.Contains(log.String(), "A transfer broke") {
				t.Error("the log says nothing")
			}
		})
	}
}

// endless never ends and says when it is let go.
type endless struct {
	ctx    context.Context
	closed chan struct{}
}

func (e *endless) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return copy(p, bytes.Repeat([]byte("x"), len(p))), nil
}
func (e *endless) Close() error { close(e.closed); return nil }

// TestAClientThatVanishesOrStallsHoldsNothing: the S3 call ends and the place is free.
func TestAClientThatVanishesOrStallsHoldsNothing(t *testing.T) {
	for name, vanish := range map[string]bool{"vanishes": true, "stalls": false} {
		t.Run(name, func(t *testing.T) {
			c := injected(t, goodClaims())
			c.IdleTimeout, c.MaxTransfers = time.Second, 1
			closed := make(chan struct{})
			s, _ := newTestServer(t, c, objectOf(1<<40, func(r *http.Request) io.ReadCloser { return &endless{r.Context(), closed} }))
			server := serve(s)
			defer server.Close()
			connection, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			fmt.Fprint(connection, "GET /s3/2026/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
			if _, err := io.ReadFull(connection, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if w := get(t, s, "/s3/2026/y"); w.Code != 503 || problemOf(t, w).Cause != diagnosis.Overloaded {
				t.Errorf("a second transfer: %d", w.Code)
			}
			if vanish {
				connection.Close()
			}
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatal("the S3 call is still open")
			}
			for range 100 {
				if len(s.transfers) == 0 {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
			t.Error("the place is still taken")
		})
	}
}

// serve serves s as Serve does, without its proofs.
func serve(s *Server) *httptest.Server {
	server := httptest.NewUnstartedServer(s.Handler())
	server.Config.ConnContext = withConnection
	server.Start()
	return server
}

// TestAnObjectOfUnknownLength is streamed to its end, and broken off where that does not come.
func TestAnObjectOfUnknownLength(t *testing.T) {
	content := strings.Repeat("x", 2*largeBuffer+5)
	for name, test := range map[string]struct {
		body  io.Reader
		whole bool
	}{
		"whole":  {strings.NewReader(content), true},
		"broken": {&brokenBody{strings.NewReader(content), io.ErrUnexpectedEOF}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTestServer(t, injected(t, goodClaims()), objectOf(-1, func(*http.Request) io.ReadCloser { return io.NopCloser(test.body) }))
			server := serve(s)
			defer server.Close()
			response, err := http.Get(server.URL + "/s3/2026/x")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if test.whole != (err == nil && string(got) == content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// TestASlowClientThatMovesIsServed: not the speed counts but that bytes move.
func TestASlowClientThatMovesIsServed(t *testing.T) {
	const size = 8 << 20
	c := injected(t, goodClaims())
	c.IdleTimeout = 3 * time.Second // the test itself may be held up on a busy machine
	s, _ := newTestServer(t, c, objectOf(size, func(*http.Request) io.ReadCloser { return io.NopCloser(strings.NewReader(strings.Repeat("x", size))) }))
	server := serve(s)
	defer server.Close()
	connection, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	_ = connection.(*net.TCPConn).SetReadBuffer(32 << 10)
	fmt.Fprint(connection, "GET /s3/2026/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	total, started := 0, time.Now()
	buffer := make([]byte, 16<<10)
	for time.Since(started) < 6*time.Second { // far less than what is there, twice the patience
		n, err := connection.Read(buffer)
		if err != nil {
			t.Fatalf("broken off after %d bytes and %s: %v", total, time.Since(started), err)
		}
		total += n
		time.Sleep(100 * time.Millisecond)
	}
	_ = connection.(*net.TCPConn).SetReadBuffer(4 << 20)
	rest, err := io.Copy(io.Discard, connection)
	if err != nil || total+int(rest) < size {
		t.Errorf("%d bytes, %v", total+int(rest), err)
	}
}

// TestAStalledListingHoldsNothing: a client that asks and never reads.
func TestAStalledListingHoldsNothing(t *testing.T) {
	c := injected(t, goodClaims())
	c.IdleTimeout = time.Second
	long := "<ListBucketResult>" + strings.Repeat("<Contents><Key>"+strings.Repeat("x", 1000)+"</Key></Contents>", 1000) + "</ListBucketResult>"
	s, _ := newTestServer(t, c, transport(func(service, operation string, r *http.Request) (*http.Response, error) {
		if operation == "ListObjectsV2" {
			return answer(200, long), nil
		}
		return green(service, operation, r)
	}))
	server := serve(s)
	defer server.Close()
	for range 4 {
		connection, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		fmt.Fprint(connection, strings.Repeat("GET /s3/?prefix= HTTP/1.1\r\nHost: localhost\r\n\r\n", 8))
	}
	time.Sleep(500 * time.Millisecond)
	for range 200 {
		if len(s.transfers) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d are still under way", len(s.transfers))
}
