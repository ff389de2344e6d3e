package main

import (
	"bytes"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

func environment(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := values[name]; return value, ok }
}

var bucket = map[string]string{"BUCKET_NAME": "orders-data", "BUCKET_PREFIX": "2026/"}

func TestTheCommandLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		"help":                     {[]string{"--help"}, nil, 0, "GET /s3/{key}"},
		"version":                  {[]string{"--version"}, nil, 0, ""},
		"no bucket":                {nil, nil, 2, "no bucket: set $BUCKET_NAME (the webhook does) or --bucket"},
		"no bucket's name":         {[]string{"--bucket=Orders"}, nil, 2, `--bucket "Orders" is no bucket name`},
		"an unknown flag":          {[]string{"--colour"}, bucket, 2, "flag provided but not defined: -colour"},
		"an unknown command":       {[]string{"serve"}, bucket, 2, `unexpected argument "serve"; the only command is check`},
		"no address":               {[]string{"--listen=8080"}, bucket, 2, `--listen is "8080"; write HOST:PORT`},
		"an address that is taken": {[]string{"--listen=" + taken.Addr().String()}, bucket, 1, "address already in use"},
		"a short interval":         {[]string{"--probe-interval=1ms"}, bucket, 2, "--probe-interval is 1ms; give 1s to 1h"},
		"no transfers":             {[]string{"--max-transfers=0"}, bucket, 2, "--max-transfers is 0"},
		"a probe out by dots":      {[]string{"--probe-key=2026/../x"}, bucket, 2, "it has . or .. between slashes"},
		"help of check":            {[]string{"check", "--help"}, nil, 0, "address of the reader to ask"},
		"an unknown flag, check":   {[]string{"check", "--port=1"}, nil, 2, "flag provided but not defined: -port"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(t.Context(), test.args, environment(test.env), io.Discard, &stderr); code != test.code || !strings.Contains(stderr.String(), test.want) {
				t.Fatalf("code %d: %s", code, stderr.String())
			}
		})
	}
}

func TestCheckPrintsOneLine(t *testing.T) {
	answer, status := "BucketMissing: The bucket does not exist.\nCreate it.", http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer server.Close()
	ask := func(address string) (int, string) {
		var stdout bytes.Buffer
		code := run(t.Context(), []string{"check", "--address=" + address}, environment(nil), &stdout, io.Discard)
		return code, stdout.String()
	}
	address := server.Listener.Addr().String()
	if code, line := ask(address); code != 1 || line != "BucketMissing: The bucket does not exist. Create it.\n" {
		t.Errorf("%d %q", code, line)
	}
	answer, status = "OK: bucket orders-data is readable", http.StatusOK
	if code, line := ask(address); code != 0 || line != "OK: bucket orders-data is readable\n" {
		t.Errorf("%d %q", code, line)
	}
	if code, line := ask("127.0.0.1:1"); code != 1 || !strings.HasPrefix(line, "no reader answers on 127.0.0.1:1") || strings.Count(line, "\n") != 1 {
		t.Errorf("%d %q", code, line)
	}
}

// TestTheReadmeIsInStep: its tables name every flag and every cause.
func TestTheReadmeIsInStep(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	has := func(kind, name string) {
		if !bytes.Contains(text, []byte("`"+name+"`")) {
			t.Errorf("README names no %s %s", kind, name)
		}
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	(&options{}).bind(flags, environment(nil))
	flags.VisitAll(func(f *flag.Flag) { has("flag", "--"+f.Name) })
	for _, cause := range diagnosis.Causes() {
		has("cause", string(cause))
	}
}
