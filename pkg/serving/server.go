package serving

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
)

// Times and sizes that an API server stays far below. It sends a request at once, with some
// 500 bytes of header, and keeps connections for later, also ones that it opened in vain: for
// 90 s (client-go). It must be the one that closes them, as a request that meets a connection
// on its end is not sent again. So nothing but the handshake has a shorter time; who dawdles
// gives way where there are too many connections.
const (
	idleTimeout    = 2 * time.Minute  // also until the end of a header
	writeTimeout   = 30 * time.Second // of the handshake, and from the end of the header; admission's own are shorter
	headerBytes    = 16 << 10
	streams        = 250 // at once on an HTTP/2 connection
	streamBuffer   = 256 << 10
	connBuffer     = 256 << 10 // of request bodies, on an HTTP/2 connection
	drainTimeout   = time.Minute
	faultsASecond  = 1
	faultsAtOnce   = 20
	readyDialLimit = 10 * time.Second
	answerHolds    = 10 * time.Second
)

// Options of a server.
type Options struct {
	Host string // empty is every address
	Port int
	// TLS has GetCertificate and the oldest version. Start adds the rest.
	TLS *tls.Config
	// ClientCA is the path of a PEM file; when set, only clients with a certificate by it are
	// answered.
	ClientCA string
	// Connections that are open at once.
	Connections int
	// HTTP2 is spoken, too. No API server asks a webhook by it, and a bound on connections bounds
	// nothing of it: each may have hundreds of requests that never end.
	HTTP2 bool
	// Refused is told of each connection that was turned away or had to give way.
	Refused func()
	Log     logr.Logger
}

// Server is a controller-runtime webhook.Server.
type Server struct {
	options Options
	mux     *http.ServeMux
	started atomic.Bool

	answered atomic.Pointer[time.Time] // when a handshake with itself was, last
}

// New makes a server; the manager starts it.
func New(options Options) *Server {
	return &Server{options: options, mux: http.NewServeMux()}
}

// NeedLeaderElection is false: every replica serves.
func (*Server) NeedLeaderElection() bool { return false }

// Register serves hook at path.
func (s *Server) Register(path string, hook http.Handler) { s.mux.Handle(path, hook) }

// WebhookMux is what Register registers with.
func (s *Server) WebhookMux() *http.ServeMux { return s.mux }

// Start serves until ctx ends and all requests are answered, for a minute at most.
func (s *Server) Start(ctx context.Context) error {
	config, err := s.tls()
	if err != nil {
		return err
	}
	inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port)))
	if err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	listener := newFairListener(inner, s.options.Connections, s.options.Refused)
	server := s.http(ctx)
	ended := make(chan error, 1)
	go func() {
		<-ctx.Done()
		timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		ended <- server.Shutdown(timeout)
	}()
	s.started.Store(true)
	s.options.Log.Info("Serving", "address", inner.Addr().String())
	if err := server.Serve(tls.NewListener(listener, config)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}

func (s *Server) tls() (*tls.Config, error) {
	config := s.options.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	if s.options.HTTP2 {
		config.NextProtos = []string{"h2", "http/1.1"}
	}
	config.DynamicRecordSizingDisabled = true // small records are for a browser's first line; here each is a system call more
	if s.options.ClientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(s.options.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of client certificates: %w", err)
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the CA of client certificates: %s has no certificate in PEM", s.options.ClientCA)
	}
	return config, nil
}

func (s *Server) http(ctx context.Context) *http.Server {
	return &http.Server{
		Handler: answering(s.mux), ConnContext: withConn, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ReadHeaderTimeout: idleTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: streams, MaxReceiveBufferPerConnection: connBuffer, MaxReceiveBufferPerStream: streamBuffer},
		ErrorLog: stdlog.New(&faults{log: s.options.Log, limit: rate.NewLimiter(faultsASecond, faultsAtOnce)}, "", 0),
	}
}

// StartedChecker is healthy while the server answers a TLS handshake. One costs milliseconds of
// CPU (P-384, on both ends) and kubelets ask each replica every other second, so that one that
// was answered holds for a while; a server that ends takes the process with it anyway.
func (s *Server) StartedChecker() healthz.Checker {
	address := net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port))
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: s.options.TLS.MinVersion} //nolint:gosec // to itself, and nothing is sent
	return func(r *http.Request) error {
		if !s.started.Load() {
			return errors.New("the server has not been started yet")
		}
		if answered := s.answered.Load(); answered != nil && time.Since(*answered) < answerHolds {
			return nil
		}
		conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: readyDialLimit}, Config: config}).DialContext(r.Context(), "tcp", address)
		if err != nil {
			return fmt.Errorf("the server does not answer: %w", err)
		}
		now := time.Now()
		s.answered.Store(&now)
		return conn.Close()
	}
}

// faults logs what the HTTP server complains of, such as a client that does not trust the
// certificate: of what strangers can bring about only so much.
type faults struct {
	log   logr.Logger
	limit *rate.Limiter
	left  atomic.Int64
}

// Write is called with one line.
func (f *faults) Write(line []byte) (int, error) {
	if !f.limit.Allow() {
		f.left.Add(1)
		return len(line), nil
	}
	f.log.Info("A connection failed", "fault", string(bytes.TrimSpace(line)), "unsaid", f.left.Swap(0))
	return len(line), nil
}
