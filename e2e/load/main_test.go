// Package load puts a replica under more load than it can take, over HTTP/1.1 and HTTP/2,
// beside a server that answers the same requests with a constant. LOAD_SECONDS is how long
// each measurement takes.
package load

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// envConstant makes this program the constant server: HOST:PORT to serve on.
const envConstant = "LOAD_CONSTANT_SERVER"

func TestMain(m *testing.M) {
	if address := os.Getenv(envConstant); address != "" {
		fmt.Fprintln(os.Stderr, constant(address))
		os.Exit(1)
	}
	if code, again := lab.Isolate(0); again {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// answer allows everything.
const answer = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"x","allowed":true}}`

// constant serves what costs least: the body is read, the answer is always the same. At /BYTES it
// is of that size, by white space behind it.
func constant(address string) error {
	pair, err := lab.ServingPair()
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(pair["tls.crt"], pair["tls.key"])
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	answers := answer + strings.Repeat(" ", 64<<10)
	server := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			size, _ := strconv.Atoi(r.URL.Path[1:])
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", strconv.Itoa(max(size, len(answer)))) // it is sent at once
			_, _ = io.WriteString(w, answers[:max(size, len(answer))])
		}),
	}
	return server.ServeTLS(listener, "", "")
}
