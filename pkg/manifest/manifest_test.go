package manifest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

func TestSplit(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		want   []string // the bodies
		line   int      // of the last body
	}{
		"nothing":                           {"", nil, 0},
		"one":                               {"a: 1\n", []string{"a: 1\n"}, 1},
		"two":                               {"a: 1\n---\nb: 2\n", []string{"a: 1\n", "b: 2\n"}, 3},
		"no newline at the end":             {"a: 1\n---\nb: 2", []string{"a: 1\n", "b: 2"}, 3},
		"Helm's comments":                   {"---\n# Source: x\na: 1\n---\n# Source: y\n", []string{"a: 1\n", ""}, 6},
		"a comment on the separator":        {"--- # one\na: 1\n", []string{"a: 1\n"}, 2},
		"content on the separator's line":   {"--- {a: 1}\n--- {b: 2}\n", []string{"--- {a: 1}\n", "--- {b: 2}\n"}, 2},
		"hyphens that separate nothing":     {"a: |\n  ---\n---- : 1\n", []string{"a: |\n  ---\n---- : 1\n"}, 1},
		"an end marker":                     {"a: 1\n...\nb: 2\n", []string{"a: 1\n", "b: 2\n"}, 3},
		"a directive":                       {"%YAML 1.2\n---\na: 1\n", []string{"a: 1\n"}, 3},
		"a directive behind an end":         {"a: 1\n...\n%YAML 1.2\n---\nb: 1\n", []string{"a: 1\n", "b: 1\n"}, 5},
		"carriage returns":                  {"a: 1\r\n---\r\nb: 2\r\n", []string{"a: 1\r\n", "b: 2\r\n"}, 3},
		"comments and blank lines behind":   {"a: 1\n\n# end\n---\nb: 1\n", []string{"a: 1\n", "b: 1\n"}, 5},
		"an indented comment in a scalar":   {"a: |\n  x\n  # y\n", []string{"a: |\n  x\n  # y\n"}, 1},
		"a byte order mark":                 {"\ufeff# x\na: 1\n", []string{"a: 1\n"}, 2},
		"separators alone":                  {"---\n---\n", []string{"", ""}, 3},
		"a byte order mark and nothing":     {"\ufeff", []string{""}, 2},
		"a percent sign inside a document":  {"---\na: 1\n---\n%b: 1\n", []string{"a: 1\n", ""}, 5},
		"JSON values":                       {"{\"a\": 1}\n{\"b\": {}}  \n\n{\"c\": \"}{\"}\n", []string{"{\"a\": 1}\n", "{\"b\": {}}  \n", "{\"c\": \"}{\"}\n"}, 4},
		"JSON values on one line":           {`# x` + "\n" + `{"a":1}{"b":2} {"c":3}`, []string{`{"a":1}`, `{"b":2} `, `{"c":3}`}, 2},
		"a flow mapping":                    {"{a: 1} # {b: 2}\n", []string{"{a: 1} # {b: 2}\n"}, 1},
		"a separator behind a comment only": {"# x\n---\na: 1\n", []string{"", "a: 1\n"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			documents := Split([]byte(test.stream))
			var bodies []string
			for _, d := range documents {
				bodies = append(bodies, string(d.Body))
			}
			if diff := cmp.Diff(test.want, bodies); diff != "" {
				t.Error(diff)
			}
			if n := len(documents); n > 0 && documents[n-1].Line != test.line {
				t.Errorf("the last document begins at line %d, want %d", documents[n-1].Line, test.line)
			}
		})
	}
}

// FuzzSplit: the documents are the stream, and each begins at the line that it says.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"a: 1\n---\nb: 2\n", "%YAML 1.2\n---\n# c\n--- {a: 1}\n...\n", "\ufeff---\r\n\r\n# x\r\n", deployment, "{\"a\":1}{\"b\":2}\r\n {}\n", "a: 1\r\nb: {}\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		var all []byte
		for _, d := range Split(stream) {
			if line := 1 + bytes.Count(all, []byte("\n")) + bytes.Count(d.Head, []byte("\n")); !d.Empty() && line != d.Line {
				t.Errorf("line %d, but says %d", line, d.Line)
			}
			all = append(all, d.Bytes()...)
			if _, err := d.JSON(); err == nil && !d.Empty() {
				patchAnything(t, d)
			}
		}
		if !bytes.Equal(all, stream) {
			t.Errorf("%q became %q", stream, all)
		}
	})
}

// patchAnything: whatever the document, the result is what RFC 6902 says, and what stands
// around the document stays.
func patchAnything(t *testing.T, d Document) {
	t.Helper()
	before, _ := d.JSON()
	if before[0] != '{' {
		return
	}
	operations := []patch.Operation{patch.Add("/zzz", []byte(`{"list":[],"text":"yes"}`)), patch.Add("/zzz/list/-", []byte(`"a: b"`))}
	want, err := PatchJSON(before, operations)
	if err != nil {
		return
	}
	out, _, err := d.Patch(operations)
	if err != nil {
		t.Fatalf("%v\n%s", err, d.Body)
	}
	if !bytes.HasPrefix(out, d.Head) || !bytes.HasSuffix(out, d.Tail) {
		t.Fatalf("what stands around is lost: %q", out)
	}
	if bytes.HasSuffix(d.Body, []byte("\r\n")) && !bytes.Contains(bytes.ReplaceAll(d.Body, []byte("\r\n"), nil), []byte("\n")) &&
		bytes.Contains(bytes.ReplaceAll(out[len(d.Head):len(out)-len(d.Tail)], []byte("\r\n"), nil), []byte("\n")) {
		t.Fatalf("mixed line ends: %q", out)
	}
	if !same(out[len(d.Head):len(out)-len(d.Tail)], want) && !bytes.HasPrefix(d.Body, []byte("---")) {
		t.Fatalf("want %s, got %s", want, out)
	}
}

const deployment = `# an application
apiVersion: apps/v1
kind: Deployment
metadata:
    name: api   # the API

spec:
    template:
        metadata: {}

        spec:
            # one container
            containers:
              - name: "app"
                image: 'app:v1'
                args: [a,   b]
                env: []

              - name: other
                command:
                  - sh
                  - -c
                  - |
                    echo "x"

                    exit
`

// TestPatchKeepsWhatNobodyNames: every line of the original is there still, in order, but
// those that an operation changes.
func TestPatchKeepsWhatNobodyNames(t *testing.T) {
	documents := Split([]byte(deployment + "---\nb: 1\n"))
	out, kept, err := documents[0].Patch([]patch.Operation{
		patch.Add("/spec/template/metadata/labels", []byte(`{}`)),
		patch.Add("/spec/template/metadata/labels/a~1b", []byte(`"yes"`)),
		patch.Add("/spec/template/spec/containers/0/env/-", []byte(`{"name":"X","value":"1"}`)),
		patch.Add("/spec/template/spec/containers/1/env", []byte(`[]`)),
		patch.Add("/spec/template/spec/containers/1/env/-", []byte(`{"name":"Y","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}`)),
		patch.Add("/spec/template/spec/volumes", []byte(`[{"name":"v","emptyDir":{}}]`)),
		patch.Remove("/spec/template/spec/containers/0/args"),
	})
	if err != nil || !kept {
		t.Fatalf("kept %t, %v\n%s", kept, err, out)
	}
	want := strings.NewReplacer("        metadata: {}\n", "        metadata:\n            labels:\n                a/b: \"yes\"\n",
		"                args: [a,   b]\n                env: []\n", "                env:\n                  - name: X\n                    value: \"1\"\n",
		"                    exit\n", "                    exit\n                env:\n                  - name: \"Y\"\n                    valueFrom:\n"+
			"                      fieldRef:\n                          fieldPath: metadata.name\n            volumes:\n                - name: v\n                  emptyDir: {}\n",
	).Replace(deployment)
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("%s\n%s", diff, out)
	}
}

// TestPatchKeepsMixedIndentation: a list may be indented where another is not.
func TestPatchKeepsMixedIndentation(t *testing.T) {
	const text = "spec:\n  containers:\n  # x\n  - name: app\n\n    env:\n      - name: A\n        value: b\n"
	out, kept, err := Split([]byte(text))[0].Patch([]patch.Operation{
		patch.Add("/spec/containers/0/env/-", []byte(`{"name":"C","value":"d"}`)), patch.Add("/spec/containers/0/mounts", []byte(`[{"name":"v"}]`)),
	})
	want := text + "      - name: C\n        value: d\n    mounts:\n    - name: v\n"
	if err != nil || !kept || string(out) != want {
		t.Errorf("kept %t, %v: %s", kept, err, cmp.Diff(want, string(out)))
	}
}

// TestPatchSaysWhereItCannotKeep: anchors would change in more than one place.
func TestPatchSaysWhereItCannotKeep(t *testing.T) {
	for _, text := range []string{"a: &x {b: 1}\nc: *x\n", `{"a": {"b": 1}, "c": {"b": 1}}` + "\n"} {
		out, kept, err := Split([]byte(text))[0].Patch([]patch.Operation{patch.Add("/a/d", []byte("2"))})
		if err != nil || kept {
			t.Errorf("kept %t, %v", kept, err)
		}
		if !same(out, []byte(`{"a":{"b":1,"d":2},"c":{"b":1}}`)) {
			t.Errorf("%s", out)
		}
	}
	if _, _, err := Split([]byte("a: 1\n"))[0].Patch([]patch.Operation{patch.Add("/b/c", []byte("1"))}); err == nil {
		t.Error("an operation on what is not there is taken")
	}
}

func TestTextsKeepTheirType(t *testing.T) {
	for _, text := range []string{"", "yes", "1", "0x1", "null", "a: b", " a", "a\nb", "#a", `{"a": "b"}`, "*a", "&a", "a #b", "1e3", "2026-01-01", "~", "a\tb", "%a", "é", "😀", "'"} {
		value, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		out, kept, err := Split([]byte("a: 1\n"))[0].Patch([]patch.Operation{patch.Add("/b", value)})
		if err != nil || !kept || !same(out, []byte(`{"a":1,"b":`+string(value)+`}`)) {
			t.Errorf("%q: kept %t, %v: %s", text, kept, err, out)
		}
	}
}

// TestNothingIsPassedOver: what a YAML parser reads of a stream is in some document's
// content, or an error.
func TestNothingIsPassedOver(t *testing.T) {
	for name, stream := range map[string]string{
		"a carriage return behind a comment":     "# x\rkind: Pod\r",
		"a carriage return in the head":          "# x\rkind: Pod\napiVersion: v1\n",
		"a carriage return in the tail":          "apiVersion: v1\n# x\rkind: Pod\n",
		"a line separator behind a comment":      "# x\u2028kind: Pod\n",
		"a separator behind a carriage return":   "a: 1\r---\rkind: Pod\r",
		"a flow mapping behind another":          "{a: 1}\n{kind: Pod}\n",
		"a list behind a JSON value":             "{\"a\": 1}\n[1]\n",
		"a mapping behind a text":                "\"a\"\n{kind: Pod}\n",
		"a separator in the midst of JSON lines": "{\"a\": 1} --- {\"kind\": \"Pod\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			var failed error
			for _, d := range Split([]byte(stream)) {
				if _, err := d.Tree(); err != nil {
					failed = err
				}
			}
			if failed == nil {
				t.Errorf("%q is taken", stream)
			}
		})
	}
	for _, stream := range []string{"# x\r\n\r\na: 1\r\n# y\r\n", "# x\r# y\na: 1\n", "a: 1\rb: 2\r", "--- {a: 1}\n"} {
		for _, d := range Split([]byte(stream)) {
			if _, err := d.Tree(); err != nil {
				t.Errorf("%q: %v", stream, err)
			}
		}
	}
}

// TestErrorsNameTheLinesOfTheStream, and so do nodes.
func TestErrorsNameTheLinesOfTheStream(t *testing.T) {
	for stream, want := range map[string]string{"a: 1\n---\n\nb: 1\nb: 2\n": "line 5", "a: 1\n---\nb: 1\nc: [\n": "line 4"} {
		if _, err := Split([]byte(stream))[1].JSON(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", stream, err)
		}
	}
	tree, err := Split([]byte("a: 1\n---\nb:\n  - c\n"))[1].Tree()
	if err != nil || tree.Line != 3 || tree.Content[1].Content[0].Line != 4 {
		t.Errorf("%+v, %v", tree, err)
	}
}

// TestValuesFollowAliases and merges; what an object says itself comes first.
func TestValuesFollowAliases(t *testing.T) {
	for text, want := range map[string]string{
		"a: 1\n": "1", "x: &x 1\na: *x\n": "1", "x: &x {a: 1}\n<<: *x\n": "1", "x: &x {a: 1}\n<<: *x\na: 2\n": "2", "a: 1\na: 2\n": "1 2",
		"x: &x {b: 1}\ny: &y {a: 2}\n<<: [*x, *y]\n": "2", "b: 1\n": "", "[a]": "", "&x {<<: *x}": "",
	} {
		tree, err := Split([]byte(text))[0].Tree()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, value := range Values(tree, "a") {
			got = append(got, value.Value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestPatchKeepsLineEnds of Windows.
func TestPatchKeepsLineEnds(t *testing.T) {
	text := strings.ReplaceAll(deployment, "\n", "\r\n")
	out, kept, err := Split([]byte(text))[0].Patch([]patch.Operation{patch.Add("/spec/template/spec/containers/0/env/-", []byte(`{"name":"X","value":"a\nb"}`))})
	if err != nil || !kept || strings.Count(string(out), "\n") != strings.Count(string(out), "\r\n") || !strings.Contains(string(out), "- name: X") {
		t.Errorf("kept %t, %v: %q", kept, err, out)
	}
}
