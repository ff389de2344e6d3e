package serving

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// served is a running server.
type served struct {
	*Server

	address string
	refused atomic.Int64
	stop    context.CancelFunc
	ended   chan error
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// certificate is self-signed, for servers and clients.
func certificate(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(tb, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve starts a server whose answer to everything is the length of the body.
func serve(t *testing.T, edit func(*Options)) *served {
	t.Helper()
	probe, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	port := probe.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // as listened on
	must(t, probe.Close())
	pair := certificate(t)
	s := &served{address: fmt.Sprintf("127.0.0.1:%d", port), ended: make(chan error, 1)}
	options := Options{
		Host: "127.0.0.1", Port: port, Connections: 100, Refused: func() { s.refused.Add(1) }, Log: logr.Discard(),
		TLS: &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }},
	}
	if edit != nil {
		edit(&options)
	}
	s.Server = New(options)
	s.Register("/length", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Slow") != "" {
			time.Sleep(500 * time.Millisecond)
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			err = r.Context().Err()
		}
		fmt.Fprint(w, n, err)
	}))
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.ended <- s.Start(ctx) }()
	t.Cleanup(stop)
	check := s.StartedChecker()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		must(t, err)
		if err = check(request); err == nil {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func insecure() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

func (s *served) client(config *tls.Config, http2 bool) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}}
}

func post(t *testing.T, client *http.Client, s *served, body string, header ...string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.address+"/length", strings.NewReader(body))
	must(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return fmt.Sprintf("%s %d %s", response.Proto, response.StatusCode, text), err
}

func TestBothVersionsOfHTTP(t *testing.T) {
	s := serve(t, func(o *Options) { o.HTTP2 = true })
	body := strings.Repeat("x", 6<<20) // more than any window
	for http2, want := range map[bool]string{false: "HTTP/1.1 200 6291456 <nil>", true: "HTTP/2.0 200 6291456 <nil>"} {
		if said, err := post(t, s.client(insecure(), http2), s, body); err != nil || said != want {
			t.Errorf("%q, %v", said, err)
		}
	}
}

// TestHTTP2IsNotSpokenUnasked neither to who offers both nor to who takes nothing else.
func TestHTTP2IsNotSpokenUnasked(t *testing.T) {
	s := serve(t, nil)
	if said, err := post(t, s.client(insecure(), true), s, "body"); err != nil || said != "HTTP/1.1 200 4 <nil>" {
		t.Errorf("%q, %v", said, err)
	}
	config := insecure()
	config.NextProtos = []string{"h2"}
	if conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", s.address); err == nil {
		t.Errorf("%q was agreed on", conn.(*tls.Conn).ConnectionState().NegotiatedProtocol) //nolint:forcetypeassert // as dialed
		_ = conn.Close()
	}
}

// TestOldProtocolsAndWeakCiphersAreRefused with each oldest version that can be set.
func TestOldProtocolsAndWeakCiphersAreRefused(t *testing.T) {
	weak := map[string]uint16{}
	for _, suite := range tls.InsecureCipherSuites() {
		weak[suite.Name] = suite.ID
	}
	strong := tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	for _, oldest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := serve(t, func(o *Options) { o.TLS.MinVersion = oldest })
		try := func(version uint16, suites ...uint16) error {
			config := insecure()
			config.MinVersion, config.MaxVersion, config.CipherSuites = version, version, suites
			_, err := post(t, s.client(config, false), s, "")
			return err
		}
		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			if err := try(version, strong); (err == nil) != (version >= oldest) {
				t.Errorf("oldest %s: %s: %v", tls.VersionName(oldest), tls.VersionName(version), err)
			}
		}
		for name, suite := range weak {
			if err := try(tls.VersionTLS12, suite); err == nil {
				t.Errorf("oldest %s: %s is accepted", tls.VersionName(oldest), name)
			}
		}
	}
}

func TestClientsWithoutACertificateAreRefusedWhereOneIsWanted(t *testing.T) {
	known, stranger := certificate(t), certificate(t)
	path := filepath.Join(t.TempDir(), "ca.crt")
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: known.Certificate[0]}), 0o600))
	s := serve(t, func(o *Options) { o.ClientCA = path })
	for name, test := range map[string]struct {
		pairs   []tls.Certificate
		refused bool
	}{"none": {nil, true}, "another's": {[]tls.Certificate{stranger}, true}, "its own": {[]tls.Certificate{known}, false}} {
		config := insecure()
		config.Certificates = test.pairs
		if said, err := post(t, s.client(config, false), s, "x"); (err != nil) != test.refused {
			t.Errorf("%s: %q, %v", name, said, err)
		}
	}
	for text, want := range map[string]string{"": "no certificate in PEM", "missing": "no such file"} {
		other := filepath.Join(t.TempDir(), "x")
		if text == "" {
			must(t, os.WriteFile(other, nil, 0o600))
		}
		if err := New(Options{TLS: insecure(), ClientCA: other}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestTheClientClosesAnIdleConnection: a server that closes it at the same moment as an API
// server uses it once more loses a request.
func TestTheClientClosesAnIdleConnection(t *testing.T) {
	theirs := utilnet.SetTransportDefaults(&http.Transport{}).IdleConnTimeout
	server := New(Options{TLS: insecure()}).http(t.Context())
	for what, ours := range map[string]time.Duration{"idle": server.IdleTimeout, "opened in vain": server.ReadHeaderTimeout} {
		if ours < theirs+10*time.Second {
			t.Errorf("a connection that is %s is closed after %s; an API server keeps it for %s", what, ours, theirs)
		}
	}
}

// TestLongHeadersAreRefused: API servers send some hundred bytes.
func TestLongHeadersAreRefused(t *testing.T) {
	s := serve(t, nil)
	long, err := tls.Dial("tcp", s.address, insecure())
	must(t, err)
	defer long.Close()
	_, _ = io.WriteString(long, "POST /length HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 2*headerBytes))
	if line, err := bufio.NewReader(long).ReadString('\n'); !strings.Contains(line, "431") {
		t.Errorf("a long header: %q, %v", line, err)
	}
}

// TestRequestsAreAnsweredBeforeTheEnd: with a context that still runs.
func TestRequestsAreAnsweredBeforeTheEnd(t *testing.T) {
	s := serve(t, nil)
	done := make(chan string, 1)
	go func() {
		said, err := post(t, s.client(insecure(), false), s, "x", "Slow", "1")
		done <- fmt.Sprint(said, err)
	}()
	time.Sleep(200 * time.Millisecond)
	s.stop()
	if said := <-done; said != "HTTP/1.1 200 1 <nil><nil>" {
		t.Error(said)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

// TestStrangersFillNoLog: a hundred handshakes that fail are some lines.
func TestStrangersFillNoLog(t *testing.T) {
	var lines atomic.Int64
	s := serve(t, func(o *Options) {
		o.Log = funcr.New(func(_, text string) {
			if strings.Contains(text, "A connection failed") {
				lines.Add(1)
			}
		}, funcr.Options{})
	})
	for range 20 * faultsAtOnce {
		conn, err := net.Dial("tcp", s.address)
		must(t, err)
		_, _ = conn.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	if n := lines.Load(); n < 1 || n > 2*faultsAtOnce {
		t.Errorf("%d lines", n)
	}
}
