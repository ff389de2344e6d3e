package cli

import (
	"net"
	"strings"
	"testing"
	"time"
)

// offered is what a shell is told: the words, and whether names of files may follow.
func offered(t *testing.T, args ...string) (words []string, files bool) {
	t.Helper()
	code, stdout, _ := plugin(t, "", append([]string{"__complete"}, args...)...)
	if code != exitFine {
		t.Fatalf("%v: exit code %d", args, code)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	last := lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		word, _, _ := strings.Cut(line, "\t")
		words = append(words, word)
	}
	return words, last == ":0"
}

// TestCompletion: names where there are some, and files only where files are asked for.
func TestCompletion(t *testing.T) {
	policies := write(t, "orders.yaml", ordersPolicy)
	// A cluster that takes a connection and never answers.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := "--server=http://" + listener.Addr().String()
	for line, test := range map[string]struct {
		want  string
		files bool
	}{
		"status|-o|":       {"table wide json yaml csv", false},
		"doctor|-o|":       {"table json yaml", false},
		"render|-o|":       {"yaml json patch diff", false},
		"validate|-o|":     {"table json yaml", false},
		"trust-policy|-o|": {"json terraform aws-cli table yaml", false},
		"trust-policy|--policies=" + policies + "|": {"orders", false},
		"trust-policy|--policies=/nope.yaml|":       {"", false},
		"trust-policy|orders|":                      {"", false},
		"status|" + server + "|":                    {"", false},
		"doctor|" + server + "|":                    {"pod/ sa/ ns/", false},
		"doctor|" + server + "|pod/":                {"", false},
		"doctor|--kubeconfig=/nope|ns/":             {"", false},
		"render|":                                   {"", false},
		"validate|":                                 {"", false},
		"version|":                                  {"", false},
		"status|--who-can|":                         {"", false},
		"status|--namespace|":                       {"", false},
		"status|--webhook-namespace|":               {"", false},
		"render|-f|":                                {"", true},
		"render|--policies|":                        {"", true},
		"render|--verdicts|":                        {"", true},
		"trust-policy|--check|":                     {"", true},
		"status|--kubeconfig|":                      {"", true},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel() // a cluster that does not answer is waited for
			start := time.Now()
			words, files := offered(t, strings.Split(line, "|")...)
			if got := strings.Join(words, " "); got != test.want || files != test.files {
				t.Errorf("%q, files %t; want %q, %t", got, files, test.want, test.files)
			}
			if took := time.Since(start); took > 2*completionTimeout {
				t.Errorf("it took %s", took)
			}
		})
	}
}
