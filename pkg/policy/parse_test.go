package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

const minimal = `apiVersion: bucket-access.io/v1alpha1
kind: BucketAccessPolicy
bucket: orders-data
region: eu-west-1
roleARN: arn:aws:iam::222222222222:role/s3-reader-role
subjects:
- {namespace: default, serviceAccount: api-sa}
`

func TestDefaultsAreFilledIn(t *testing.T) {
	p, errs := Parse("orders.yaml", minimal)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	want := Policy{
		Name: "orders", Bucket: "orders-data", Region: "eu-west-1", Audience: "sts.amazonaws.com", TokenExpiration: 3600,
		Actions: []string{"s3:GetObject", "s3:ListBucket"}, StaticCredentials: "Deny", InstanceMetadata: "Deny",
		Env:    v1alpha1.EnvNames{BucketName: "BUCKET_NAME", BucketRegion: "BUCKET_REGION", BucketPrefix: "BUCKET_PREFIX"},
		Reader: v1alpha1.Reader{Gate: "None"}, Hash: p.Hash, Role: p.Role, Subjects: p.Subjects,
	}
	if diff := cmp.Diff(want.Env, p.Env); diff != "" || p.Name != want.Name || p.Audience != want.Audience ||
		p.TokenExpiration != want.TokenExpiration || !cmp.Equal(p.Actions, want.Actions) || p.StaticCredentials != want.StaticCredentials ||
		p.InstanceMetadata != want.InstanceMetadata || p.Reader != want.Reader || p.Role.String() != "arn:aws:iam::222222222222:role/s3-reader-role" {
		t.Fatalf("got %+v", p)
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	p, errs := Parse("orders", minimal+`audience: my-audience
tokenExpirationSeconds: 900
prefix: eu/
actions: [s3:GetObject]
kmsKeyARN: arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab
issuer: https://oidc.eks.eu-west-1.amazonaws.com/id/X
env: {bucketName: ORDERS_BUCKET, bucketRegion: ORDERS_REGION, bucketPrefix: ORDERS_PREFIX}
endpoints: {s3: "https://s3.example.com", sts: "https://sts.example.com:8443/x"}
staticCredentials: Warn
instanceMetadata: Allow
reader: {inject: true, gate: Startup, probeKey: eu/probe}
`)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	got := fmt.Sprint(p.Audience, p.TokenExpiration, p.Prefix, p.Actions, p.KMSKeyARN, p.Issuer, p.Env, p.Endpoints,
		p.StaticCredentials, p.InstanceMetadata, p.Reader)
	want := "my-audience 900 eu/ [s3:GetObject] arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab " +
		"https://oidc.eks.eu-west-1.amazonaws.com/id/X {ORDERS_BUCKET ORDERS_REGION ORDERS_PREFIX} " +
		"{https://s3.example.com https://sts.example.com:8443/x} Warn Allow {true Startup eu/probe}"
	if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestAllErrorsAreReportedAtOnceWithTheirPathsAndLines(t *testing.T) {
	_, errs := Parse("orders", `apiVersion: bucket-access.io/v1
kind: BucketAccessPolicy
bucket: Orders_Data
region: 5
roleARN: arn:aws:iam::2222:user/x
tokenExpirationSeconds: 0
actions: [s3:GetObjekt]
subjects:
- {namespace: default, serviceAccount: api-sa}
- {namespace: "UPPER", serviceAccount: ""}
- {namespace: default, serviceAccount: api-sa, extra: 1}
colour: blue
bucket: again
staticCredentials: Perhaps
`)
	want := []string{
		`data[orders].region: Invalid value: must be a string, found "5"; put it in quotes (line 4)`,
		`data[orders].tokenExpirationSeconds: Invalid value: 0: must be 600 to 86400 seconds (line 6)`,
		`data[orders].subjects[2].extra: Forbidden: unknown key; known here: namespace, serviceAccount (line 11)`,
		`data[orders].colour: Forbidden: unknown key; known here: actions, apiVersion, audience, bucket, endpoints, env, instanceMetadata, issuer, kind, kmsKeyARN, prefix, reader, region, roleARN, staticCredentials, subjects, tokenExpirationSeconds (line 12)`,
		`data[orders].bucket: Forbidden: repeated key: first on line 3, again on line 13; keep one`,
		`data[orders].apiVersion: Unsupported value: "bucket-access.io/v1": supported values: "bucket-access.io/v1alpha1" (line 1)`,
		`data[orders].roleARN: Invalid value: "arn:aws:iam::2222:user/x": account "2222" is not 12 digits; resource "user/x" is not a role (role/NAME); a role's ARN is like arn:aws:iam::222222222222:role/s3-reader-role (line 5)`,
		`data[orders].subjects[1].namespace: Invalid value: "UPPER": is no Kubernetes name: lower-case letters, digits and hyphens; '*' and '?' as in IAM's StringLike (line 10)`,
		`data[orders].subjects[1].serviceAccount: Required value: write a name; '*' is any (line 10)`,
		`data[orders].subjects[2]: Duplicate value: "default/api-sa": list it once (line 11)`,
		`data[orders].actions[0]: Unsupported value: "s3:GetObjekt": supported values:`,
		`data[orders].staticCredentials: Unsupported value: "Perhaps": supported values: "Deny", "Warn" (line 14)`,
	}
	var got []string
	for _, err := range errs {
		text := err.Error()
		if i := strings.Index(text, `"s3:AbortMultipartUpload"`); i > 0 {
			text = strings.TrimRight(text[:i], " ")
		}
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestBadDocumentsAndNames(t *testing.T) {
	for name, test := range map[string]struct{ key, text, want string }{
		"empty":                  {"orders", "", "data[orders]: Invalid value: is empty"},
		"only a comment":         {"orders", "# nothing", "is empty"},
		"no YAML":                {"orders", "a: [", "data[orders]: Invalid value: is no YAML: yaml: line 1"},
		"two documents":          {"orders", minimal + "---\n" + minimal, "more than one YAML document"},
		"a list":                 {"orders", "- a", "data[orders]: Invalid value: must be an object, found a list"},
		"an alias":               {"orders", "bucket: &a orders-data\nregion: *a\n", "anchors and aliases are not supported"},
		"named none":             {"none.yaml", minimal, `data[none.yaml]: Invalid value: "none" is the label's way to opt out`},
		"no label value":         {"-x", minimal, "can't be a label's value"},
		"bucket an IP":           {"orders", strings.Replace(minimal, "orders-data", "10.0.0.1", 1), "the form of an IP address"},
		"bucket with dots":       {"orders", strings.Replace(minimal, "orders-data", "a..b", 1), "two dots"},
		"an access point":        {"orders", strings.Replace(minimal, "orders-data", "x-s3alias", 1), "reserves the suffix -s3alias"},
		"a KMS alias":            {"orders", minimal + "kmsKeyARN: arn:aws:kms:eu-west-1:222222222222:alias/x", "an alias does not do"},
		"an http issuer":         {"orders", minimal + "issuer: http://x", "is no issuer"},
		"a wildcard prefix":      {"orders", minimal + "prefix: a/*", "would be wildcards"},
		"a prefix beyond Latin":  {"orders", minimal + "prefix: 日本/", "which IAM takes in no policy document"},
		"a prefix with $$":       {"orders", minimal + "prefix: a$$b/", "filled in by Kubernetes"},
		"a variable as audience": {"orders", minimal + "audience: ${aws:username}", "is no audience"},
		"a probe outside":        {"orders", minimal + "prefix: a/\nreader: {probeKey: b/x}", `is outside of the policy's prefix "a/"`},
		"a reader without proof": {"orders", minimal + "actions: [s3:GetObject]\nreader: {inject: true}", "proves access by an object: name one"},
		"an AWS_ name":           {"orders", minimal + "env: {bucketName: AWS_BUCKET}", "belong to the SDKs"},
		"one name twice":         {"orders", minimal + "env: {bucketName: X, bucketRegion: X}", "is the name of env.bucketName already"},
		"no actions":             {"orders", minimal + "actions: []", "list at least one action"},
		"expiration in quotes":   {"orders", minimal + `tokenExpirationSeconds: "900"`, "must be a whole number of seconds"},
		"a huge expiration":      {"orders", minimal + `tokenExpirationSeconds: 99999999999999999999`, "must be a whole number of seconds"},
		"reader no boolean":      {"orders", minimal + `reader: {inject: "yes"}`, "must be true or false"},
		"an endpoint's query":    {"orders", minimal + `endpoints: {s3: "https://x?y"}`, "is no endpoint"},
		"wrong partition":        {"orders", strings.Replace(minimal, "arn:aws:", "arn:azure:", 1), `partition "azure" is none of`},
		"a role with a region":   {"orders", strings.Replace(minimal, "iam::", "iam:eu-west-1:", 1), "IAM ARNs have no region"},
		"no subjects":            {"orders", minimal[:strings.Index(minimal, "subjects")], "list at least one {namespace, serviceAccount}"},
	} {
		t.Run(name, func(t *testing.T) {
			p, errs := Parse(test.key, test.text)
			if p != nil || len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), test.want) {
				t.Fatalf("got %v, %v; want %q", p, errs, test.want)
			}
		})
	}
}

func TestHashIsOfWhatIsInjected(t *testing.T) {
	hash := func(text string) string {
		p, errs := Parse("orders", text)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		return p.Hash
	}
	was := hash(minimal)
	for _, same := range []string{"- {namespace: shop, serviceAccount: x}\n", "actions: [s3:GetObject]\n", "staticCredentials: Warn\n", "reader: {inject: true}\n"} {
		if hash(minimal+same) != was {
			t.Errorf("%q makes Pods outdated", same)
		}
	}
	for _, other := range []string{"audience: x\n", "tokenExpirationSeconds: 600\n", "prefix: x\n", "env: {bucketName: X}\n", "endpoints: {s3: 'https://x'}\n", "instanceMetadata: Allow\n"} {
		if hash(minimal+other) == was {
			t.Errorf("%q makes no Pod outdated", other)
		}
	}
}

func TestSubjectsMatchAsStringLike(t *testing.T) {
	subjects := NewSubjects([]v1alpha1.Subject{{Namespace: "default", ServiceAccount: "api-sa"}, {Namespace: "shop-?", ServiceAccount: "*"}})
	for name, test := range map[string]struct {
		namespace, account string
		want               bool
	}{
		"exact":              {"default", "api-sa", true},
		"other account":      {"default", "api-sa2", false},
		"other namespace":    {"defaults", "api-sa", false},
		"question mark":      {"shop-1", "anyone", true},
		"question mark is 1": {"shop-12", "anyone", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := subjects.Allow(test.namespace, test.account); got != test.want {
				t.Fatalf("got %t", got)
			}
		})
	}
}

// FuzzParse: no input panics, and what is accepted is complete.
func FuzzParse(f *testing.F) {
	f.Add("orders", minimal)
	f.Add("orders.yaml", minimal+"env: {bucketName: X}\nreader: {gate: Startup}\n")
	f.Add("x", "a: &a [*a, *a]\nb: {<<: *a}\n")
	f.Add("none", "---\n---\n")
	f.Add("y", "bucket: !!binary aGVsbG8=\nsubjects: {}\n")
	f.Fuzz(func(t *testing.T, key, text string) {
		p, errs := Parse(key, text)
		if (p == nil) == (len(errs) == 0) {
			t.Fatalf("neither a policy nor errors, or both: %v, %v", p, errs)
		}
		if p != nil && (p.Bucket == "" || p.Role.Name() == "" || !ValidTokenExpiration(p.TokenExpiration) || len(p.Subjects.All()) == 0) {
			t.Fatalf("accepted an incomplete policy: %+v", p)
		}
		for _, err := range errs {
			if !strings.HasPrefix(err.Field, "data[") {
				t.Fatalf("an error without its place: %v", err)
			}
		}
	})
}
