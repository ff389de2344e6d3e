package iam

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMergeKeepsWhatOthersNeed: statements of other clusters, of people and of elements
// that are not known here stay as they are; only those for the provider are replaced.
func TestMergeKeepsWhatOthersNeed(t *testing.T) {
	const (
		provider = "arn:aws:iam::222222222222:oidc-provider/a.example.com"
		ours     = `{"Sid": "old", "Effect": "Allow", "Principal": {"Federated": ["` + provider + `"]}, "Action": "sts:AssumeRoleWithWebIdentity"}`
		deny     = `{"Effect": "Deny", "Principal": {"Federated": "` + provider + `"}, "Action": "sts:*"}`
		other    = `{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::222222222222:oidc-provider/b.example.com"}, "Action": "sts:AssumeRoleWithWebIdentity"}`
		person   = `{"Sid": "people", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::222222222222:root"}, "Action": "sts:AssumeRole", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": true}}}`
		both     = `{"Effect": "Allow", "Principal": {"Federated": "` + provider + `", "AWS": "arn:aws:iam::222222222222:role/x"}, "Action": "sts:*"}`
		unknown  = `{"Effect": "Allow", "Principal": {"AWS": "1"}, "Novelty": [1.50, {"<b>": null}]}`
	)
	fresh := Document{Version: PolicyVersion, Statement: Statements{{Sid: "new", Effect: Allow, Principal: Principal{"Federated": {provider}}, Action: Values{AssumeRoleWithWebIdentity}}}}
	written, err := json.Marshal(fresh.Statement[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		existing, kept []string
		replaced       []int
	}{
		"all kinds":            {[]string{other, ours, person, deny, both, unknown}, []string{other, person, both, unknown}, []int{1, 3}},
		"none for this issuer": {[]string{other}, []string{other}, nil},
		"only this issuer's":   {[]string{ours}, nil, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			merged, replaced, err := MergeTrust([]byte(`{"Novel": "x", "Id": "i", "Version": "2008-10-17", "Statement": [`+strings.Join(test.existing, ",")+`]}`), provider, fresh)
			if err != nil {
				t.Fatal(err)
			}
			var got, want any
			for text, into := range map[string]*any{
				string(merged): &got,
				`{"Novel": "x", "Id": "i", "Version": "2008-10-17", "Statement": [` + strings.Join(append(slices.Clone(test.kept), string(written)), ",") + `]}`: &want,
			} {
				if err := json.Unmarshal([]byte(text), into); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.replaced, replaced); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(strings.Join(test.kept, ""), "1.50") && !strings.Contains(string(merged), "1.50") {
				t.Errorf("a number is written anew: %s", merged)
			}
		})
	}
	if merged, _, err := MergeTrust([]byte(`{"Statement": `+other+`}`), provider, fresh); err != nil || !strings.Contains(string(merged), "b.example.com") {
		t.Errorf("a single statement: %s, %v", merged, err)
	}
	for _, text := range []string{"", "[]", "{}", `{"Statement": 1}`, `{"Statement": [], "Statement": []}`} {
		if merged, _, err := MergeTrust([]byte(text), provider, fresh); err == nil {
			t.Errorf("%q became %s", text, merged)
		}
	}
}
