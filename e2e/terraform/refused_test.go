package terraform

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// wrong is one wrong input and the sentence that refuses it.
type wrong struct {
	key   string
	value any
	want  string
}

func wrongInputs() []wrong {
	return []wrong{
		{"bucket", "Orders_Data", `bucket: "Orders_Data" is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens`},
		{"bucket", "orders-", `bucket: "orders-" is no bucket name`},
		{"bucket", "a..b", `bucket: "a..b" is no bucket name: two dots stand together`},
		{"bucket", "10.0.0.1", `bucket: "10.0.0.1" is no bucket name: two dots stand together, or it has the form of an IP address`},
		{"bucket", "xn--bucket", `bucket: "xn--bucket" begins or ends with what S3 reserves`},
		{"bucket", "orders--x-s3", `bucket: "orders--x-s3" begins or ends with what S3 reserves`},
		{"region", "Ireland", `region: "Ireland" is no region's name; one is like eu-west-1`},
		{"role_name", "s3 reader", `role_name: "s3 reader" is not 1 to 64 of letters, digits and _+=,.@-`},
		{"role_name", "path/reader", `role_name: "path/reader" is not 1 to 64`},
		{"role_name", strings.Repeat("r", 65), `is not 1 to 64 of letters`},
		{"role_path", "teams", `role_path: "teams" is not made of parts between slashes`},
		{"issuers", []string{}, `issuers: the list is empty`},
		{"issuers", []string{issuerA, "http://a.example.com"}, `issuers: http://a.example.com is no issuer: an https URL`},
		{"issuers", []string{"https://b.example.com?c"}, `issuers: https://b.example.com?c is no issuer`},
		{"issuers", []string{"https://user@c.example.com"}, `issuers: https://user@c.example.com is no issuer`},
		{"issuers", []string{"https://d.example.com:8443/x", issuerA}, `issuers: https://d.example.com:8443/x has a port, and IAM takes none`},
		{"issuers", []string{"https://e.example.com/%zz"}, `issuers: there is a character that stands in no URL`},
		{"issuers", []string{"https://f.example.com/" + strings.Repeat("x", 250)}, `issuers: https://f.example.com/xxx`},
		{"audience", "a b", `audience: "a b" is no audience: 1 to 255 printable ASCII characters`},
		{"subjects", []subject{}, `subjects: the list is empty; list at least one {namespace, service_account}`},
		{"subjects", []subject{{"Shop", "a"}}, `subjects: namespace "Shop" is no Kubernetes name`},
		{"subjects", []subject{{"shop", "a"}, {"shop", "A_1"}, {"shop", ""}}, `subjects: service_account "A_1", "" is no Kubernetes name`},
		{"prefix", "2026/*", `prefix: "2026/*" is literal: '*', '?' and '${' would be wildcards and variables in IAM`},
		{"prefix", "a$$b/", `prefix: "a$$b/" has '$(' or '$$', which Kubernetes would fill in`},
		{"prefix", "日本/", `prefix: "日本/" has characters beyond U+00FF`},
		{"prefix", "${aws:username}/", `prefix: "${aws:username}/" is literal`},
		{"prefix", "a\tb", `prefix: "a\tb" has a control character`},
		{"prefix", strings.Repeat("ü", 513), `prefix: there are more than the 1024 bytes`},
		{"actions", []string{}, `actions: the list is empty`},
		{"actions", []string{"s3:GetObject", "s3:DeleteBucket"}, `actions: s3:DeleteBucket is none of ` + strings.Join(iam.Actions(), ", ") + `.`},
		{"actions", []string{"s3:*"}, `actions: s3:* is none of `},
		{"actions", []string{"s3:GetObject", "s3:ListBucket", "s3:GetObject"}, `actions: an action stands twice in s3:GetObject, s3:ListBucket, s3:GetObject`},
		{"kms_key_arn", "alias/orders", `kms_key_arn: "alias/orders" is no ARN of a KMS key`},
		{"kms_key_arn", "arn:aws:kms:eu-west-1:222222222222:alias/orders", `kms_key_arn: "arn:aws:kms:eu-west-1:222222222222:alias/orders" is no ARN of a KMS key`},
		{"partition", "azure", `partition: "azure" is none of ` + strings.Join(iam.Partitions(), ", ")},
		{"account_id", "22222222222", `account_id: "22222222222" is not 12 digits`},
		{"existing_issuers", []string{issuerB}, `existing_issuers: ` + issuerB + ` is none of issuers: ` + issuerA},
		{"max_session_duration", 60, `max_session_duration: 60 is not a whole number of seconds from 3600 to 43200`},
		{"max_session_duration", 3600.5, `max_session_duration: 3600.5 is not`},
		{"permissions_boundary", "boundary", `permissions_boundary: "boundary" is no ARN of a managed policy`},
		{"permissions_boundary", "", `permissions_boundary: "" is no ARN of a managed policy`},
		{"trust_policy_quota", 1000, `trust_policy_quota: 1000 is not a whole number of at least 2048`},
	}
}

// TestWrongInputsAreRefused: each wrong input is refused with its sentence and by nothing
// else, and the program refuses it in a policy too.
func TestWrongInputsAreRefused(t *testing.T) {
	cases, tests := map[string]map[string]any{}, wrongInputs()
	for i, test := range tests {
		in, fields := base(func(*inputs) {}), map[string]any{}
		convert(t, in, &fields)
		fields[test.key] = test.value
		cases[fmt.Sprintf("%02d", i)] = fields
		switch test.key {
		case "existing_issuers", "max_session_duration", "permissions_boundary", "trust_policy_quota":
			continue // no part of a policy
		}
		in = in.withDefaults()
		convert(t, map[string]any{test.key: test.value}, &in)
		if err := refusedByProgram(in); err == nil {
			t.Errorf("pkg/policy takes %s = %v", test.key, test.value)
		}
	}
	said := diagnostics(t, wrapper(t, cases))
	for _, test := range tests {
		found := -1
		for i, sentence := range said {
			if strings.Contains(sentence, test.want) {
				found = i
			}
		}
		if found < 0 {
			t.Errorf("%s = %v is not refused with: %s", test.key, test.value, test.want)
			continue
		}
		said = append(said[:found], said[found+1:]...)
	}
	if len(said) > 0 {
		t.Errorf("more was said:\n%s", strings.Join(said, "\n"))
	}
}

// TestLongTrustPolicyIsRefused: one character more than the quota is too long.
func TestLongTrustPolicyIsRefused(t *testing.T) {
	in := long()
	size := in.TrustPolicyQuota
	in.TrustPolicyQuota--
	said := diagnostics(t, wrapper(t, map[string]inputs{"long": in}))
	want := fmt.Sprintf("The trust policy has %d characters and the quota is %d: use fewer subjects or a wildcard", size, size-1)
	if len(said) != 1 || !strings.Contains(said[0], want) {
		t.Errorf("want %s\nsaid %s", want, strings.Join(said, "\n"))
	}
}

// diagnostics are the errors of a plan.
func diagnostics(t *testing.T, dir string) []string {
	t.Helper()
	must(t, dir, "init")
	out, log, err := run(t, dir, "plan", "-json")
	if err == nil {
		t.Fatalf("nothing is refused:\n%s%s", out, log)
	}
	var said []string
	for line := range strings.Lines(out) {
		var event struct {
			Diagnostic struct {
				Severity string `json:"severity"`
				Summary  string `json:"summary"`
				Detail   string `json:"detail"`
			} `json:"diagnostic"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if d := event.Diagnostic; d.Severity == "error" {
			said = append(said, d.Summary+": "+d.Detail)
		}
	}
	return said
}

func convert(t *testing.T, from, to any) {
	t.Helper()
	text, err := json.Marshal(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}
