package suite

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// BenchmarkTransfer reads an object of 1 GiB by the AWS SDK, by the SDK over a bare TCP
// relay, and through the reader, in turns in one run, and reports the medians and the
// reader's share of both. Client, reader and server share this machine's cores, so every
// process in between costs speed; the relay is the least that one can cost.
func BenchmarkTransfer(b *testing.B) {
	a := newAccess(b)
	a.large(b)
	r := a.reader(b, a.pod(b, "app"), nil)
	if _, err := r.Report(b.Context()); err != nil {
		b.Fatal(err)
	}
	key, relayed := "large.bin", "http://"+relay(b, strings.TrimPrefix(a.b.S3URL, "http://"))
	bySDK := func(options ...func(*s3.Options)) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) {
			answer, err := a.b.S3.GetObject(b.Context(), &s3.GetObjectInput{Bucket: &a.policy.Bucket, Key: &key}, options...)
			if err != nil {
				return nil, err
			}
			return answer.Body, nil
		}
	}
	ways := []func() (io.ReadCloser, error){
		bySDK(),
		bySDK(func(o *s3.Options) { o.BaseEndpoint = &relayed }),
		func() (io.ReadCloser, error) {
			answer, err := http.Get("http://" + r.Address + "/s3/" + key)
			if err != nil {
				return nil, err
			}
			return answer.Body, nil
		},
	}
	speeds := make([][]float64, len(ways))
	for b.Loop() {
		for i, way := range ways {
			speeds[i] = append(speeds[i], speed(b, way))
		}
	}
	direct, relay, reader := median(speeds[0]), median(speeds[1]), median(speeds[2])
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(direct, "sdk-MB/s")
	b.ReportMetric(relay, "relay-MB/s")
	b.ReportMetric(reader, "reader-MB/s")
	b.ReportMetric(reader/direct, "of-sdk")
	b.ReportMetric(reader/relay, "of-relay")
}

// relay passes connections on to address, as they are, and returns its own address.
func relay(b *testing.B, address string) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			go func() { defer server.Close(); io.Copy(server, client) }()
			go func() { defer client.Close(); io.Copy(client, server) }() // spliced by the kernel
		}
	}()
	return listener.Addr().String()
}

func speed(b *testing.B, open func() (io.ReadCloser, error)) float64 {
	b.Helper()
	started := time.Now()
	body, err := open()
	if err != nil {
		b.Fatal(err)
	}
	defer body.Close()
	n, err := io.Copy(io.Discard, body)
	if err != nil || n != gibibyte {
		b.Fatalf("%d bytes, %v", n, err)
	}
	return float64(n) / 1e6 / time.Since(started).Seconds()
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}
