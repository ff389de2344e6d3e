package plugin

import (
	"slices"
	"strings"
	"testing"
)

// complete asks kubectl, as a shell does, what may follow kubectl bucket-access.
func (h *home) complete(t *testing.T, words ...string) []string {
	t.Helper()
	said, err := h.run(t, nil, "../../bin/kube/kubectl", append([]string{"__complete", "bucket-access"}, words...)...)
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	answers, _, whole := strings.Cut("\n"+said, "\n:4\n") // 4: and no file names
	if !whole {
		t.Fatalf("%q: file names are offered as well: %s", words, said)
	}
	var got []string
	for line := range strings.Lines(answers) {
		if word, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); word != "" && !strings.HasPrefix(word, "[Debug]") {
			got = append(got, word)
		}
	}
	return got
}

// TestKubectlCompletesThePlugin by kubectl_complete-bucket_access, which it finds on the PATH.
func TestKubectlCompletesThePlugin(t *testing.T) {
	h := newHome(t, absolute(t, "../../plugins"), absolute(t, "../../bin"))
	for _, test := range []struct {
		words     []string
		want, not []string
	}{
		{words: []string{""}, want: []string{"doctor", "render", "status", "trust-policy", "validate", "version"}, not: []string{"--issuer"}},
		{words: []string{"do"}, want: []string{"doctor"}, not: []string{"render"}},
		{words: []string{"trust-policy", "--"}, want: []string{"--issuer", "--with", "--live", "--check", "--namespace"}, not: []string{"doctor"}},
		{words: []string{"trust-policy", "--is"}, want: []string{"--issuer"}, not: []string{"--with"}},
		{words: []string{"trust-policy", "orders", "-o", ""}, want: []string{"json", "terraform", "aws-cli"}},
		{words: []string{"trust-policy", "orders", "--with", ""}, want: []string{"provider", "role", "permissions", "bucket-policy"}},
		{words: []string{"render", "-o", ""}, want: []string{"yaml", "json", "patch", "diff"}},
		{words: []string{"validate", "-o", ""}, want: []string{"table", "json", "yaml"}},
		{words: []string{"doctor", "-o", ""}, want: []string{"table", "json", "yaml"}},
		{words: []string{"status", "-o", ""}, want: []string{"table", "wide", "json", "yaml", "csv"}},
	} {
		got := h.complete(t, test.words...)
		for _, want := range test.want {
			if !slices.Contains(got, want) {
				t.Errorf("%q: lacks %s: %q", test.words, want, got)
			}
		}
		for _, not := range test.not {
			if slices.Contains(got, not) {
				t.Errorf("%q: has %s: %q", test.words, not, got)
			}
		}
	}
}
