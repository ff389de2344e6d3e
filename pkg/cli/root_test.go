package cli

import (
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// plugin runs the plugin with a command line and an input.
func plugin(t *testing.T, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	streams, in, out, errs := genericiooptions.NewTestIOStreams()
	in.WriteString(input)
	code = Run(t.Context(), args, streams, "v1.2.3")
	return code, out.String(), errs.String()
}

func TestTheCommandLine(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"help":               {[]string{"--help"}, exitFine, "kubectl bucket-access [command]"},
		"the version":        {[]string{"version"}, exitFine, "kubectl-bucket_access v1.2.3"},
		"an unknown command": {[]string{"vresion"}, exitUsage, `unknown command "vresion"`},
		"no policy":          {[]string{"trust-policy"}, exitUsage, "error: give the name of one policy, like: kubectl bucket-access trust-policy orders; found 0 arguments"},
		"an unknown flag":    {[]string{"version", "--nope"}, exitUsage, "unknown flag: --nope"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, "", test.args...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit code %d, %s%s", code, stdout, stderr)
			}
		})
	}
}
