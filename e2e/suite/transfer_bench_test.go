package suite

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/time/rate"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// singleFlow is what AWS lets one connection of an EC2 instance carry outside of a cluster
// placement group, in bytes a second: 5 Gbit/s.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-network-bandwidth.html.
const singleFlow = 5_000_000_000 / 8

// BenchmarkTransferAtAWSPace is BenchmarkTransfer with an S3 behind a connection as fast as
// AWS's: there the network is the bound, and not the cores that all share here.
func BenchmarkTransferAtAWSPace(b *testing.B) {
	a := newAccess(b)
	a.large(b)
	paced, key := "http://"+relay(b, strings.TrimPrefix(a.b.S3URL, "http://"), singleFlow), "large.bin"
	r := a.reader(b, a.pod(b, "app"), func(start *lab.PodStart) { start.SetEnv("AWS_ENDPOINT_URL_S3", paced) })
	if _, err := r.Report(b.Context()); err != nil {
		b.Fatal(err)
	}
	var direct, through []float64
	for b.Loop() {
		direct = append(direct, speed(b, bySDK(b, a, key, paced)))
		through = append(through, speed(b, byReader(r, key)))
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	b.ReportMetric(median(direct), "sdk-MB/s")
	b.ReportMetric(median(through), "reader-MB/s")
	b.ReportMetric(median(through)/median(direct), "of-sdk")
}

func bySDK(b *testing.B, a *access, key, endpoint string) func() (io.ReadCloser, error) {
	b.Helper()
	return func() (io.ReadCloser, error) {
		answer, err := a.b.S3.GetObject(b.Context(), &s3.GetObjectInput{Bucket: &a.policy.Bucket, Key: &key},
			func(o *s3.Options) { o.BaseEndpoint = &endpoint })
		if err != nil {
			return nil, err
		}
		return answer.Body, nil
	}
}

func byReader(r *lab.ReaderProcess, key string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		answer, err := http.Get("http://" + r.Address + "/s3/" + key)
		if err != nil {
			return nil, err
		}
		return answer.Body, nil
	}
}

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
	key, relayed := "large.bin", "http://"+relay(b, strings.TrimPrefix(a.b.S3URL, "http://"), 0)
	ways := []func() (io.ReadCloser, error){bySDK(b, a, key, a.b.S3URL), bySDK(b, a, key, relayed), byReader(r, key)}
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

// relay passes connections on to address, as they are, and returns its own address. What
// comes back is paced to so many bytes a second for each connection; 0 is as fast as it goes.
func relay(b *testing.B, address string, pace int) string {
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
			go func() {
				defer client.Close()
				if pace > 0 {
					io.Copy(&pacedWriter{client, rate.NewLimiter(rate.Limit(pace), 1<<20)}, server)
				} else {
					io.Copy(client, server) // spliced by the kernel
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// pacedWriter writes no faster than its limiter allows.
type pacedWriter struct {
	io.Writer
	limit *rate.Limiter
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	if err := w.limit.WaitN(context.Background(), len(p)); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
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
