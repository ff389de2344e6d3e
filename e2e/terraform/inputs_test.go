package terraform

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

type subject struct {
	Namespace      string `json:"namespace"`
	ServiceAccount string `json:"service_account"`
}

// inputs are the module's variables, and what AWS says of the account. What is empty
// is left to the module's default.
type inputs struct {
	Partition        string    `json:"partition,omitempty"`
	AccountID        string    `json:"account_id,omitempty"`
	RoleName         string    `json:"role_name"`
	RolePath         string    `json:"role_path,omitempty"`
	Issuers          []string  `json:"issuers"`
	Audience         string    `json:"audience,omitempty"`
	Subjects         []subject `json:"subjects"`
	Bucket           string    `json:"bucket"`
	Region           string    `json:"region"`
	Prefix           string    `json:"prefix,omitempty"`
	Actions          []string  `json:"actions,omitempty"`
	KMSKeyARN        string    `json:"kms_key_arn,omitempty"`
	TrustPolicyQuota int       `json:"trust_policy_quota,omitempty"`
}

const (
	issuerA = "https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2"
	issuerB = "https://oidc.eks.eu-central-1.amazonaws.com/id/C3D4"
	issuerC = "https://k8s.example.com"
	keyARN  = "arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// base is the smallest correct case, with a change.
func base(change func(*inputs)) inputs {
	in := inputs{
		RoleName: "s3-reader-role", Issuers: []string{issuerA}, Subjects: []subject{{"default", "api-sa"}},
		Bucket: "orders-data", Region: "eu-west-1",
	}
	change(&in)
	return in
}

func table() map[string]inputs {
	return map[string]inputs{
		"defaults":        base(func(*inputs) {}),
		"several":         base(func(in *inputs) { in.Subjects = []subject{{"shop", "b"}, {"default", "api-sa"}, {"shop", "a.b"}} }),
		"wildcard":        base(func(in *inputs) { in.Subjects = []subject{{"shop", "*"}} }),
		"question mark":   base(func(in *inputs) { in.Subjects = []subject{{"team-?", "api"}} }),
		"exact beside it": base(func(in *inputs) { in.Subjects = []subject{{"shop", "*"}, {"default", "api-sa"}} }),
		"issuers":         base(func(in *inputs) { in.Issuers = []string{issuerC, issuerB, issuerA} }),
		"issuers, like":   base(func(in *inputs) { in.Issuers, in.Subjects = []string{issuerB, issuerA}, []subject{{"*", "*"}} }),
		"slash at end":    base(func(in *inputs) { in.Issuers = []string{issuerC + "/"} }),
		"duplicates": base(func(in *inputs) {
			in.Issuers = []string{issuerB, issuerA, issuerB}
			in.Subjects = []subject{{"shop", "b"}, {"default", "a"}, {"shop", "b"}}
		}),
		"prefix":         base(func(in *inputs) { in.Prefix = "2026/" }),
		"strange prefix": base(func(in *inputs) { in.Prefix = `a "b" <c> & d\é $ %{ ü/` }),
		"longest prefix": base(func(in *inputs) { in.Prefix = strings.Repeat("ü", 512) }),
		"kms":            base(func(in *inputs) { in.KMSKeyARN = keyARN }),
		"kms, writing":   base(func(in *inputs) { in.KMSKeyARN, in.Actions = keyARN, []string{"s3:PutObject", "s3:GetObject"} }),
		"china": base(func(in *inputs) {
			in.Partition, in.Region, in.KMSKeyARN = "aws-cn", "cn-north-1", "arn:aws-cn:kms:cn-north-1:222222222222:key/1234"
		}),
		"us-gov": base(func(in *inputs) {
			in.Partition, in.Region, in.KMSKeyARN = "aws-us-gov", "us-gov-west-1", "arn:aws-us-gov:kms:us-gov-west-1:222222222222:key/1234"
		}),
		"sovereign":    base(func(in *inputs) { in.Partition, in.Region = "aws-eusc", "eusc-de-east-1" }),
		"role path":    base(func(in *inputs) { in.RolePath, in.AccountID = "/teams/orders/", "012345678901" }),
		"audience":     base(func(in *inputs) { in.Audience = `a<b>&"c\` }),
		"all actions":  base(func(in *inputs) { in.Actions, in.Prefix, in.KMSKeyARN = iam.Actions(), "2026/", keyARN }),
		"objects only": base(func(in *inputs) { in.Actions, in.Prefix = []string{"s3:GetObjectVersion"}, "x" }),
		"bucket only":  base(func(in *inputs) { in.Actions, in.Prefix = []string{"s3:GetBucketLocation"}, "x" }),
		"order of actions": base(func(in *inputs) {
			in.Actions = []string{"s3:PutObject", "s3:ListBucketVersions", "s3:GetObject", "s3:ListBucket"}
		}),
		"as long as may be": long(),
	}
}

// long is a case whose trust policy is exactly as long as its quota.
func long() inputs {
	in := base(func(in *inputs) {
		in.Issuers = []string{issuerA, issuerB, issuerC}
		for i := range 20 {
			in.Subjects = append(in.Subjects, subject{"shop", fmt.Sprintf("service-account-%d", i)})
		}
	})
	document, err := iam.TrustPolicy(iam.Trust{
		Role: mustRole(in.withDefaults().roleARN()), Issuers: in.Issuers, Audience: v1alpha1.DefaultAudience, Subjects: in.subjects(),
	})
	if err != nil {
		panic(err)
	}
	in.TrustPolicyQuota = document.Size()
	return in
}

// allCases are the table and random ones; pkg/policy takes every one of them.
func allCases(t *testing.T) map[string]inputs {
	t.Helper()
	const seed, number = 20261125, 24
	t.Logf("seed %d", seed)
	cases, random := table(), rand.New(rand.NewPCG(seed, 0))
	for i := range number {
		cases[fmt.Sprintf("random %02d", i)] = randomInputs(random)
	}
	for name, in := range cases {
		if name == "duplicates" {
			continue // a policy lists a subject once; a variable may be put together from several places
		}
		if err := refusedByProgram(in.withDefaults()); err != nil {
			t.Fatalf("%s is refused by pkg/policy: %v", name, err)
		}
	}
	return cases
}

func randomInputs(random *rand.Rand) inputs {
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	place := strings.Fields(pick("aws eu-west-1", "aws us-east-2", "aws-cn cn-northwest-1", "aws-us-gov us-gov-east-1", "aws-iso us-iso-east-1"))
	in := inputs{
		Partition: place[0], Region: place[1], AccountID: fmt.Sprintf("%012d", random.Int64N(1e12)),
		RoleName: pick("r", "reader_+=,.@-", strings.Repeat("R", 64)), RolePath: pick("", "/", "/a/", "/a-b/c.d/"),
		Audience: pick("", "sts.amazonaws.com", "sts.amazonaws.com.cn", "https://x.example.com/?a=b&c=<d>"),
		Bucket:   pick("abc", "my.bucket-1", "1-2.3"), Prefix: pick("", "", "a", "a/b/", `"quoted"/`, "grüße/", "a b+c%20<>&/"),
		TrustPolicyQuota: 8192,
	}
	for range 1 + random.IntN(4) {
		in.Issuers = append(in.Issuers, pick(issuerA, issuerB, issuerC, issuerC+"/", "https://a.example.com/%41/b~c@d"))
	}
	seen := map[subject]bool{}
	for range 1 + random.IntN(6) {
		one := subject{pick("a", "default", "shop-1", "a0"), pick("api", "web.v1", "x-y", "z")}
		if random.IntN(8) == 0 {
			one.ServiceAccount = pick("*", "api-*", "?", "v?-*")
		}
		if !seen[one] {
			in.Subjects = append(in.Subjects, one)
		}
		seen[one] = true
	}
	known := iam.Actions()
	for _, i := range random.Perm(len(known))[:random.IntN(8)] {
		in.Actions = append(in.Actions, known[i])
	}
	if random.IntN(2) == 0 {
		in.KMSKeyARN = "arn:" + in.Partition + ":kms:" + in.Region + ":" + in.AccountID + ":key/mrk-1234"
	}
	return in
}

// withDefaults fills in what pkg/api and the account would.
func (in inputs) withDefaults() inputs {
	for _, field := range []struct {
		value    *string
		fallback string
	}{{&in.Partition, "aws"}, {&in.AccountID, "222222222222"}, {&in.RolePath, "/"}, {&in.Audience, v1alpha1.DefaultAudience}} {
		if *field.value == "" {
			*field.value = field.fallback
		}
	}
	if len(in.Actions) == 0 {
		in.Actions = v1alpha1.BucketAccessPolicy{}.WithDefaults().Actions
	}
	return in
}

func (in inputs) roleARN() string {
	return "arn:" + in.Partition + ":iam::" + in.AccountID + ":role" + in.RolePath + in.RoleName
}

func (in inputs) subjects() []v1alpha1.Subject {
	var list []v1alpha1.Subject
	for _, one := range in.Subjects {
		list = append(list, v1alpha1.Subject{Namespace: one.Namespace, ServiceAccount: one.ServiceAccount})
	}
	return list
}

// program is what pkg/iam makes its documents from.
func (in inputs) program() (iam.Trust, iam.Grant) {
	role := mustRole(in.roleARN())
	return iam.Trust{Role: role, Issuers: in.Issuers, Audience: in.Audience, Subjects: in.subjects()},
		iam.Grant{Role: role, Bucket: in.Bucket, Region: in.Region, Prefix: in.Prefix, Actions: in.Actions, KMSKeyARN: in.KMSKeyARN}
}

func mustRole(arn string) iam.RoleARN {
	role, err := iam.ParseRoleARN(arn)
	if err != nil {
		panic(arn + " " + err.Error())
	}
	return role
}

// refusedByProgram says whether a policy of Account A with these inputs is refused.
func refusedByProgram(in inputs) error {
	var subjects []map[string]string
	for _, one := range in.Subjects {
		subjects = append(subjects, map[string]string{"namespace": one.Namespace, "serviceAccount": one.ServiceAccount})
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": v1alpha1.APIVersion, "kind": v1alpha1.Kind, "bucket": in.Bucket, "region": in.Region, "roleARN": in.roleARN(),
		"subjects": subjects, "audience": in.Audience, "prefix": in.Prefix, "actions": in.Actions, "kmsKeyARN": in.KMSKeyARN,
	})
	if err != nil {
		return err
	}
	parsed, faults := policy.Parse("case.yaml", string(text))
	if len(faults) > 0 {
		return faults.ToAggregate()
	}
	if parsed.Role.Name() != in.RoleName {
		return fmt.Errorf("%q is no role's name", in.RoleName)
	}
	_, err = parsed.TrustPolicy(in.Issuers...)
	return err
}
