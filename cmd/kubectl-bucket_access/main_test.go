package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	sample = "../../manifests/samples/policy-orders.yaml"
	wrong  = "../../pkg/cli/testdata/policies-wrong.yaml"
	pod    = "apiVersion: v1\nkind: Pod\nmetadata: {name: api, namespace: shop, labels: {bucket-access.io/policy: orders}}\nspec: {containers: [{name: app, image: app}]}\n"
)

// asProgram makes the test's own binary the program.
const asProgram = "KUBECTL_BUCKET_ACCESS_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	m.Run()
}

// program is a command line of the program in a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Env = append(os.Environ(), asProgram+"=1", "TERM=xterm", "NO_COLOR=")
	return command
}

// TestTheBinary: exit codes and streams of the program itself.
func TestTheBinary(t *testing.T) {
	for name, test := range map[string]struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		"version":           {[]string{"version"}, 0, "kubectl-bucket_access devel", ""},
		"help":              {[]string{"render", "--help"}, 0, "helm template shop ./chart | kubectl bucket-access render", ""},
		"render":            {[]string{"render", "-f", "-", "--policies", sample}, 0, "bucket-access.io/injected: orders", "Pod/api in shop: inject, Injected"},
		"render, refused":   {[]string{"render", "-f", "testdata/refused.yaml", "--policies", sample}, 1, "name: api", "does not list system:serviceaccount:elsewhere:default"},
		"validate":          {[]string{"validate", "-f", sample}, 0, "", "1 policy: 0 errors"},
		"validate, wrong":   {[]string{"validate", "-f", wrong}, 1, "error: data[orders.yaml].region: Required value", "11 errors"},
		"trust-policy":      {[]string{"trust-policy", "orders", "--policies", sample, "--issuer", "https://a.example.com"}, 0, `"a.example.com:aud": "sts.amazonaws.com"`, ""},
		"a typing mistake":  {[]string{"rendr"}, 2, "", `unknown command "rendr"`},
		"completion":        {[]string{"completion", "bash"}, 0, "__start_kubectl-bucket_access", ""},
		"what may be typed": {[]string{"__complete", "render", "--output", ""}, 0, "patch", ""},
	} {
		t.Run(name, func(t *testing.T) {
			command := program(t, test.args...)
			var out, errs bytes.Buffer
			command.Stdin, command.Stdout, command.Stderr = strings.NewReader(pod), &out, &errs
			err := command.Run()
			if command.ProcessState == nil {
				t.Fatal(err)
			}
			if code := command.ProcessState.ExitCode(); code != test.code || !strings.Contains(out.String(), test.stdout) || !strings.Contains(errs.String(), test.stderr) {
				t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
			}
			if strings.Contains(out.String()+errs.String(), "\x1b") {
				t.Error("colours in a pipe")
			}
		})
	}
}
