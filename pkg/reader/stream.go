package reader

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A transfer copies through a few large buffers, so that S3 is read while the client is
// written to: one buffer costs half of the speed. Only so many transfers get them; the
// others, which share the network with those anyway, copy through one small buffer. So
// 256 transfers hold 6 MiB and 8 MiB of buffers at most.
const (
	largeBuffer  = 512 << 10
	largeBuffers = 3 // of one transfer
	smallBuffer  = 32 << 10
	fastLanes    = 4
)

var (
	largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	smallPool = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
)

// part is what was read into a buffer; with an error nothing of it may be sent.
type part struct {
	data []byte
	last bool
	err  error
}

// unknown is the length of a body that ends when it ends.
const unknown = -1

// stream copies the object. Whatever breaks, the connection is broken with it: a transfer
// that ends early must never look like a whole one. The last bytes are sent only when the
// body has ended as it should, its checksum included.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, body io.Reader, length int64, cancel context.CancelFunc) {
	free, release := s.buffers()
	full := make(chan part, cap(free))
	var reading sync.WaitGroup
	reading.Go(func() { readParts(body, length, free, full) })
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // the guard takes over; not every writer has deadlines
	guard := guardProgress(r.Context(), s.config.IdleTimeout, func() {
		cancel()
		_ = control.SetWriteDeadline(time.Unix(1, 0)) // ends a write that is under way
	})
	defer func() {
		guard.stop()
		cancel() // ends a read that is under way
		close(free)
		reading.Wait()
		release()
	}()
	for {
		next := <-full
		if next.err != nil {
			s.broken("S3", next.err)
		}
		if _, err := w.Write(next.data); err != nil {
			s.broken("client", err)
		}
		guard.sent.Add(int64(len(next.data)))
		s.recorder.bytes.Add(float64(len(next.data)))
		if next.last {
			return
		}
		free <- next.data[:cap(next.data)]
	}
}

// buffers takes the buffers of one transfer; release gives them back when nobody uses
// them any more.
func (s *Server) buffers() (free chan []byte, release func()) {
	select {
	case s.lanes <- struct{}{}:
	default:
		small, _ := smallPool.Get().(*[smallBuffer]byte)
		free = make(chan []byte, 1)
		free <- small[:]
		return free, func() { smallPool.Put(small) }
	}
	free = make(chan []byte, largeBuffers)
	taken := make([]*[largeBuffer]byte, largeBuffers)
	for i := range taken {
		taken[i], _ = largePool.Get().(*[largeBuffer]byte)
		free <- taken[i][:]
	}
	return free, func() {
		for _, large := range taken {
			largePool.Put(large)
		}
		<-s.lanes
	}
}

// readParts reads a body of the given length into free buffers and passes them on, until
// its end, an error, or until free is closed.
func readParts(body io.Reader, length int64, free <-chan []byte, full chan<- part) {
	for got := int64(0); ; {
		buffer, ok := <-free
		if !ok {
			return
		}
		if length != unknown {
			buffer = buffer[:min(int64(len(buffer)), length-got)]
		}
		n, err := body.Read(buffer)
		got += int64(n)
		next := part{data: buffer[:n], err: err}
		switch ended := errors.Is(err, io.EOF); {
		case length == unknown && ended:
			next.err, next.last = nil, true
		case got == length && (err == nil || ended):
			next.err, next.last = endOf(body), true
		case ended:
			next.err = io.ErrUnexpectedEOF
		}
		full <- next // never blocks: there are as many places as buffers
		if next.err != nil || next.last {
			return
		}
	}
}

// endOf says what is wrong with a body's end.
func endOf(body io.Reader) error {
	n, err := body.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("the body is longer than announced")
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return errors.New("the body has no end")
	}
	return err
}

// broken ends the request by breaking its connection.
func (s *Server) broken(side string, err error) {
	s.log.Warn("A transfer broke", "side", side, "error", innermost(err)) // the key: with the request, at level debug
	panic(http.ErrAbortHandler)
}
