package reader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// Server serves objects, the state of access, and the page.
type Server struct {
	config    *Config
	clients   *clients
	prover    *prover
	recorder  *recorder
	log       *slog.Logger
	transfers chan struct{} // one place for each that is under way
	lanes     chan struct{} // for those with large buffers
	draining  atomic.Bool
	hosts     map[string]bool
}

// New sets a server up; nothing is asked of AWS yet.
func New(ctx context.Context, c *Config, log *slog.Logger) (*Server, error) {
	return newServer(ctx, c, log, nil)
}

// newServer takes the transport of the AWS SDK, for tests; nil is the network.
func newServer(ctx context.Context, c *Config, log *slog.Logger, transport http.RoundTripper) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	clients := newClients(ctx, c, transport)
	recorder := newRecorder()
	s := &Server{
		config: c, clients: clients, recorder: recorder, log: log, transfers: make(chan struct{}, c.MaxTransfers), lanes: make(chan struct{}, fastLanes),
		hosts: map[string]bool{"localhost": true},
		prover: &prover{
			chain: &chain{config: c, clients: clients, now: time.Now}, config: c, recorder: recorder, log: log, again: make(chan struct{}, 1),
		},
	}
	for _, host := range c.AllowedHosts {
		s.hosts[strings.ToLower(host)] = true
	}
	return s, nil
}

// Timeouts and limits of the server. What a transfer may take has no limit as long as it
// makes progress.
const (
	headerTimeout   = 5 * time.Second
	keepAlive       = 90 * time.Second
	maxHeaderBytes  = 16 << 10
	shutdownTimeout = 25 * time.Second // below a Pod's 30 s of grace
)

// Serve serves on listener and proves access until ctx ends, then drains: it goes on for
// the shutdown delay without being ready, takes no new connection after that, and lets
// transfers end.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, IdleTimeout: keepAlive, MaxHeaderBytes: maxHeaderBytes,
		ConnContext: withConnection,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	proving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go s.prover.run(proving)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.log.Info("Draining", "transfers", len(s.transfers))
	time.Sleep(s.config.ShutdownDelay)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("draining: %w", errors.Join(err, server.Close()))
	}
	return nil
}

// Handler is everything that is served.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /status", s.status)
	mux.Handle("GET /metrics", s.recorder.handler())
	s.pages(mux)
	return s.guarded(s.observed(func(w http.ResponseWriter, r *http.Request) {
		// Not by the mux, which would clean // and .. out of a key.
		if escaped, ok := strings.CutPrefix(r.URL.EscapedPath(), "/s3/"); ok {
			s.bucket(w, r, escaped)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// bucket serves what is below /s3/. Whoever can write the bucket chose what is answered
// here: nothing of it may run, be sniffed, or be embedded elsewhere.
func (s *Server) bucket(w http.ResponseWriter, r *http.Request, escaped string) {
	h := w.Header()
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	select {
	case s.transfers <- struct{}{}:
		defer func() { <-s.transfers }()
	default:
		s.refuse(w, r, diagnosis.Of(diagnosis.Overloaded, s.facts(""), strconv.Itoa(cap(s.transfers))+" are under way"))
		return
	}
	s.recorder.transfers.Inc()
	defer s.recorder.transfers.Dec()
	if escaped == "" {
		s.list(w, r)
		return
	}
	s.object(w, r, escaped)
}

// readyz says whether access is proven, from the last proof.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	report := s.prover.report(time.Now())
	status, line := http.StatusServiceUnavailable, "not checked yet"
	switch {
	case s.draining.Load():
		line = "draining"
	case report == nil:
	case report.Ready:
		status, line = http.StatusOK, report.Line()
	default:
		line = report.Line()
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, line)
}

// status is the last report.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	report := s.prover.report(time.Now())
	if report == nil {
		report = &Report{Bucket: s.config.Bucket, Prefix: s.config.Prefix, Checks: []Check{}}
		for _, step := range s.prover.chain.steps() {
			report.Checks = append(report.Checks, Check{ID: step.id, Link: step.link, Title: step.title, State: Skipped})
		}
	}
	writeJSON(w, http.StatusOK, report)
}
