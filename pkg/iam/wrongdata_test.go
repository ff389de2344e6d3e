package iam

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestWrongPoliciesAreAtHand: testdata/wrong.json holds the wrong policies for the tests of
// whoever judges policies with this package.
func TestWrongPoliciesAreAtHand(t *testing.T) {
	type wrong struct {
		Name   string `json:"name"`
		Policy string `json:"policy"`
		Want   string `json:"want"` // in what is said of it
		Lets   bool   `json:"lets"` // IAM lets the token in all the same
	}
	var all []wrong
	for _, name := range slices.Sorted(maps.Keys(wrongPolicies)) {
		test := wrongPolicies[name]
		all = append(all, wrong{name, strings.Replace(rightPolicy, test.replace, test.by, 1), test.want, test.lets})
	}
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(all); err != nil {
		t.Fatal(err)
	}
	const path = "testdata/wrong.json"
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not in step (%v); write it with: go test ./pkg/iam -run AtHand -update", path, err)
	}
}
