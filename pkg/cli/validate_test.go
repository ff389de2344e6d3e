package cli

import (
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// show runs the plugin as a person would see it, or as a pipe would: what goes to stdout
// and stderr in one text, and the exit code.
func show(t *testing.T, width int, input string, args ...string) (string, int) {
	t.Helper()
	streams, in, out, errs := genericiooptions.NewTestIOStreams()
	in.WriteString(input)
	e := &environment{
		IOStreams: streams, flags: genericclioptions.NewConfigFlags(true), version: "v1.2.3",
		terminal: func(io.Writer) terminal { return terminal{width: width, colour: width > 0} },
	}
	code := e.run(t.Context(), args)
	return out.String() + errs.String(), code
}

// goldenText compares a text with a file.
func goldenText(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./pkg/cli -update", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// widest is the number of columns of the longest line, without colours.
func widest(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		columns, escape := 0, false
		for _, r := range strings.TrimSuffix(line, "\n") {
			switch {
			case r == '\x1b':
				escape = true
			case escape:
				escape = r != 'm'
			default:
				columns++
			}
		}
		n = max(n, columns)
	}
	return n
}

const wrongPolicies = "testdata/policies-wrong.yaml"

// TestValidateSaysAll: every error with its line, on a terminal of 80 columns, through a
// pipe, and as data.
func TestValidateSaysAll(t *testing.T) {
	pipe, code := show(t, 0, "", "validate", "-f", wrongPolicies)
	if code != exitFindings {
		t.Errorf("exit code %d", code)
	}
	goldenText(t, "validate.pipe.txt", pipe)
	if strings.Contains(pipe, "\x1b") {
		t.Error("colours in a pipe")
	}
	terminal, _ := show(t, 80, "", "validate", "-f", wrongPolicies)
	goldenText(t, "validate.terminal.txt", terminal)
	if n := widest(terminal); n > 80 {
		t.Errorf("a line of %d columns", n)
	}
	text, err := os.ReadFile(wrongPolicies)
	if err != nil {
		t.Fatal(err)
	}
	// Each line that is wrong ends with the comment of how many errors it has.
	want := map[int]int{}
	for i, line := range strings.Split(string(text), "\n") {
		if n := strings.Count(line, "WRONG"); n > 0 {
			want[i+1] = n
		}
	}
	for _, output := range []string{outputJSON, outputYAML} {
		_, stdout, _ := plugin(t, "", "validate", "-f", wrongPolicies, "-o", output)
		var findings []finding
		if err := yaml.UnmarshalStrict([]byte(stdout), &findings); err != nil {
			t.Fatal(err)
		}
		got := map[int]int{}
		for _, f := range findings {
			if f.Severity == severityError {
				got[f.Line]++
			}
			if f.Path == "" || f.Message == "" || f.File != wrongPolicies {
				t.Errorf("incomplete: %+v", f)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-lines that are wrong +lines that are reported: %s", diff)
		}
	}
}

func TestValidateWarns(t *testing.T) {
	base := "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/s3-reader-role\nsubjects:\n- {namespace: default, serviceAccount: api-sa}\n"
	for name, test := range map[string]struct {
		text string
		path string // of the one warning; empty is none
		line int
	}{
		"nothing":                {base, "", 0},
		"twelve hours":           {base + "tokenExpirationSeconds: 43200\n", "", 0},
		"a pattern":              {strings.Replace(base, "default", `"team-*"`, 1), "", 0},
		"any ServiceAccount":     {strings.Replace(base, "api-sa", `"*"`, 1), "", 0},
		"more than twelve hours": {base + "tokenExpirationSeconds: 43201\n", "data[stdin].tokenExpirationSeconds", 8},
		"every Namespace":        {strings.Replace(base, "default", `"*"`, 1), "data[stdin].subjects[0].namespace", 7},
		"every Namespace still":  {strings.Replace(base, "default", `"?*"`, 1), "data[stdin].subjects[0].namespace", 7},
		"another partition":      {strings.Replace(base, "eu-west-1", "us-gov-west-1", 1), "data[stdin].region", 4},
		"a role of another":      {strings.Replace(base, "arn:aws:", "arn:aws-cn:", 1), "data[stdin].region", 4},
		"static keys":            {base + "staticCredentials: Warn\n", "data[stdin].staticCredentials", 8},
		"a key elsewhere":        {base + "kmsKeyARN: arn:aws:kms:eu-west-3:222222222222:key/1\n", "data[stdin].kmsKeyARN", 8},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := plugin(t, test.text, "validate", "-f", "-", "-o", "json")
			var findings []finding
			if err := json.Unmarshal([]byte(stdout), &findings); err != nil || code != exitFine {
				t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
			}
			if test.path == "" && len(findings) == 0 {
				return
			}
			if len(findings) != 1 || findings[0].Path != test.path || findings[0].Line != test.line || findings[0].Severity != severityWarning {
				t.Errorf("%+v", findings)
			}
		})
	}
}

func TestValidateReads(t *testing.T) {
	policy := strings.ReplaceAll(strings.TrimPrefix(ordersPolicy, "\n"), "\n", "\n    ")
	configMap := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME, labels: {bucket-access.io/policies: 'true'}}\ndata:\n  orders: |\n    " + policy + "\n"
	one, two := strings.Replace(configMap, "NAME", "one", 1), strings.Replace(configMap, "NAME", "two", 1)
	for name, test := range map[string]struct {
		text string
		code int
		want string
	}{
		"one":                  {one, exitFine, "1 policy: 0 errors, 0 warnings"},
		"a name twice":         {one + "---\n" + two, exitFindings, `stdin:22: error: data[orders]: policy "orders" is defined in stdin (ConfigMap/one) already`},
		"in a List":            {"kind: List\nitems:\n- " + strings.ReplaceAll(one, "\n", "\n  "), exitFine, "1 policy: 0 errors"},
		"without the label":    {strings.Replace(one, "policies: 'true'", "x: y", 1), exitFine, "warning: metadata.labels: there are policies under data"},
		"quoted on one line":   {"kind: ConfigMap\napiVersion: v1\nmetadata: {labels: {bucket-access.io/policies: 'true'}}\ndata:\n  x: 'a: 1'\n", exitFindings, "stdin:5: error: data[x].bucket: Required"},
		"no text":              {"kind: ConfigMap\napiVersion: v1\nmetadata: {labels: {bucket-access.io/policies: 'true'}}\ndata:\n  x: {a: 1}\n", exitFindings, "stdin:5: error: data[x]: must be text"},
		"nothing in it":        {"kind: ConfigMap\napiVersion: v1\nmetadata: {labels: {bucket-access.io/policies: 'true'}}\n", exitFine, "warning: data: defines no policy"},
		"binary data":          {"kind: ConfigMap\napiVersion: v1\nmetadata: {labels: {bucket-access.io/policies: 'true'}}\nbinaryData: {x: YQ==}\n", exitFindings, "stdin:4: error: binaryData"},
		"no YAML":              {"a: 1\n---\na: 1\nb: [\n", exitFindings, "is no YAML"},
		"something else":       {"kind: Pod\n", exitUsage, "error: -: no policy: want ConfigMaps"},
		"an alias":             {"x: &l {bucket-access.io/policies: 'true'}\n" + strings.Replace(strings.Replace(one, "{bucket-access.io/policies: 'true'}", "*l", 1), "orders: |", "orders: &o |", 1) + "  two: *o\n", exitFine, "2 policies: 0 errors"},
		"a merge":              {"x: &x {metadata: {labels: {bucket-access.io/policies: 'true'}}}\nkind: ConfigMap\napiVersion: v1\n<<: *x\ndata:\n  <<: {y: 'a: 1'}\n", exitFindings, "stdin:6: error: data[y].bucket: Required"},
		"a policy in a List":   {"kind: List\nitems:\n- " + strings.ReplaceAll(strings.TrimPrefix(ordersPolicy, "\n"), "\n", "\n  "), exitFindings, "stdin:3: error: a policy in a List has no name"},
		"a key to be obeyed":   {"kind: BucketAccessPolicy\n\"a\\e[2J\": 1\n", exitFindings, `data[stdin].a\x1b[2J: Forbidden: unknown key`},
		"a repeated key":       {"# x\n" + strings.TrimPrefix(ordersPolicy, "\n") + "bucket: y\n", exitFindings, "first on line 4, again on line 11"},
		"an unknown output":    {"", exitUsage, "--filename is required"},
		"too long for a class": {strings.TrimPrefix(ordersPolicy, "\n") + "# " + strings.Repeat("x", 70000) + "\nprefix: a\n", exitFindings, "a policy has at most 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"validate", "-f", "-"}
			if test.code == exitUsage && test.text == "" {
				args = args[:1]
			}
			code, stdout, stderr := plugin(t, test.text, args...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) || name == "a policy in a List" && strings.Count(stdout, "error: ") != 1 {
				t.Errorf("exit code %d: %s%s", code, stdout, stderr)
			}
		})
	}
	if code, _, stderr := plugin(t, one, "validate", "-f", "-", "-o", "xml"); code != exitUsage || !strings.Contains(stderr, `--output is "xml"`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestValidateIsLinear: documents far down in a file are not each read with all lines
// before them.
func TestValidateIsLinear(t *testing.T) {
	document := strings.TrimPrefix(ordersPolicy, "\n") + strings.Repeat("#\n", 1000) + "---\n"
	text := []byte(strings.Repeat(document, 600))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v := newValidation()
	for _, d := range manifest.Split(text) {
		v.document("orders.yaml", d)
	}
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	// A parser's buffers and nodes are some dozens of kilobytes for each document.
	if limit := uint64(600 * 200_000); allocated > limit {
		t.Errorf("%d bytes for 600 documents, want at most %d", allocated, limit)
	}
}
