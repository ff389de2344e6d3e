package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/rest"
)

// network is a connection from which as much is read at once as has come.
type network struct {
	net.Conn
	come  []byte
	err   error // after what has come
	reads []time.Time
}

func (n *network) Read(into []byte) (int, error) {
	n.reads = append(n.reads, time.Now())
	count := copy(into, n.come)
	if n.come = n.come[count:]; len(n.come) == 0 {
		return count, n.err
	}
	return count, nil
}

func (*network) Close() error { return nil }

func TestACalmConnectionReadsOnceInAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		from := &network{}
		conn := newCalmConn(from, calmPause)
		into := make([]byte, 100)
		for range 3 {
			from.come = make([]byte, 150) // told in two parts, read at once
			for _, want := range []int{100, 50} {
				if n, err := conn.Read(into); n != want || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
		}
		want := []time.Time{begin, begin.Add(calmPause), begin.Add(2 * calmPause)}
		if !slices.EqualFunc(from.reads, want, time.Time.Equal) {
			t.Errorf("read at %v, want %v", from.reads, want)
		}
	})
}

func TestACalmConnectionIsNotLateAfterRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &network{come: []byte("one")}
		conn := newCalmConn(from, calmPause)
		for range 2 {
			before := time.Now()
			if _, err := conn.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(before); waited != 0 {
				t.Errorf("waited %s", waited)
			}
			from.come = []byte("two")
			time.Sleep(calmPause)
		}
	})
}

func TestACalmConnectionReadsOnWhileThereIsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		from := &network{come: make([]byte, 3*calmBuffer), err: io.EOF}
		if all, err := io.ReadAll(newCalmConn(from, calmPause)); len(all) != 3*calmBuffer || err != nil {
			t.Fatalf("%d bytes, %v", len(all), err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("a crowd of news was kept waiting for %s", took)
		}
	})
}

func TestACalmConnectionTellsAnErrorAfterWhatCameBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("connection reset")
		all, err := io.ReadAll(newCalmConn(&network{come: []byte("the last news"), err: broken}, calmPause))
		if string(all) != "the last news" || !errors.Is(err, broken) {
			t.Errorf("%q, %v", all, err)
		}
	})
}

func TestClosingACalmConnectionEndsItsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		conn := newCalmConn(here, time.Hour)
		read := make(chan error)
		go func() {
			_, err := io.ReadAll(conn)
			read <- err
		}()
		if _, err := there.Write([]byte("news")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 2 { // as a transport may
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
		begin := time.Now()
		if err := <-read; err == nil || time.Since(begin) != 0 {
			t.Errorf("%v after %s", err, time.Since(begin))
		}
	})
}

// Whatever sizes come and are asked for, the same bytes arrive.
func TestACalmConnectionChangesNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		sent := make([]byte, random.IntN(3*calmBuffer))
		for i := range sent {
			sent[i] = byte(random.Uint32())
		}
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			for left := sent; len(left) > 0; {
				n := 1 + random.IntN(len(left))
				if _, err := there.Write(left[:n]); err != nil {
					t.Error(err)
					return
				}
				left = left[n:]
			}
		}()
		conn := newCalmConn(here, time.Microsecond)
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
		}
		_ = conn.Close()
	}
}

// A goroutine of an HTTP/2 transport reads without being asked, so each watch has a connection.
func TestACalmClientSpeaksHTTP1OverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s as %s", r.Proto, r.Header.Get("Authorization"))
	}))
	var connections atomic.Int64
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	base := &rest.Config{Host: server.URL, BearerToken: "t", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	for config, want := range map[*rest.Config]string{base: "HTTP/2.0 as Bearer t", Calm(base): "HTTP/1.1 as Bearer t"} {
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		before := connections.Load()
		for range 3 {
			if got := ask(t, client, server.URL); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		if opened := connections.Load() - before; (opened == 3) != (config != base) {
			t.Errorf("%s: %d connections for three requests", want, opened)
		}
	}
	if base.Dial != nil || base.NextProtos != nil {
		t.Error("the configuration of others was changed")
	}
}

func TestACalmClientDialsAsItIsTold(t *testing.T) {
	refused := errors.New("refused")
	config := Calm(&rest.Config{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	if _, err := config.Dial(t.Context(), "tcp", "192.0.2.1:443"); !errors.Is(err, refused) {
		t.Error(err)
	}
}

func ask(tb testing.TB, client *http.Client, url string) string {
	tb.Helper()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}
