package suite

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// fault is one set-up that is broken on purpose.
type fault struct {
	more   []string                                 // lines of the policy
	breaks func(t *testing.T, a *access)            // in Account B
	start  func(*testing.T, *access, *lab.PodStart) // in the Pod
	// by is the service that refuses for real; empty where nobody is asked.
	by    string
	want  diagnosis.Cause
	of    diagnosis.Cause // of the object, where that differs from the proof's
	rule  iam.Rule        // by which pkg/iam names what is wrong with the trust policy
	check string          // of the report that is red
	says  string
}

// trust changes the role's trust policy.
func trust(edit func(*iam.Document, *access)) func(*testing.T, *access) {
	return func(t *testing.T, a *access) {
		t.Helper()
		document, err := a.policy.TrustPolicy(cluster.Issuer)
		must(t, err)
		edit(&document, a)
		a.trust = &document
		must(t, a.b.SetTrust(testContext(t), a.policy, document))
	}
}

// condition replaces the trust policy's condition; HOST stands for the issuer.
func condition(text string) func(*testing.T, *access) {
	return trust(func(d *iam.Document, a *access) {
		text := strings.NewReplacer("HOST", iam.ProviderHost(cluster.Issuer), "SUB", "system:serviceaccount:"+a.namespace+":api-sa").Replace(text)
		d.Statement[0].Condition = iam.Condition{}
		if err := json.Unmarshal([]byte(text), &d.Statement[0].Condition); err != nil {
			panic(err)
		}
	})
}

// token puts another token in place of the Pod's.
func token(fresh func(t *testing.T, a *access) string) func(*testing.T, *access, *lab.PodStart) {
	return func(t *testing.T, a *access, start *lab.PodStart) {
		t.Helper()
		text := fresh(t, a)
		start.Token = &text
	}
}

func environment(pairs ...string) func(*testing.T, *access, *lab.PodStart) {
	return func(_ *testing.T, _ *access, start *lab.PodStart) {
		for i := 0; i < len(pairs); i += 2 {
			start.SetEnv(pairs[i], pairs[i+1])
		}
	}
}

// signed is a token of another issuer, which nobody in the cluster has signed.
func signed(claims map[string]any) string {
	encode := base64.RawURLEncoding.EncodeToString
	payload, _ := json.Marshal(claims) //nolint:errchkjson // texts, numbers and lists
	text := encode([]byte(`{"alg":"ES256","kid":"x"}`)) + "." + encode(payload)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	sum := sha256.Sum256([]byte(text))
	r, s, _ := ecdsa.Sign(crand.Reader, key, sum[:])
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature)
}

func claims(a *access) map[string]any {
	return map[string]any{"iss": cluster.Issuer, "sub": "system:serviceaccount:" + a.namespace + ":api-sa", "aud": []string{"sts.amazonaws.com"},
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
}

// deny is a statement for the bucket's or the role's policy.
func deny(principal bool) func(*testing.T, *access) {
	return func(t *testing.T, a *access) {
		t.Helper()
		grant, statement := a.policy.Grant(), iam.Statement{Effect: iam.Deny, Action: iam.Values{"s3:*"}, Resource: iam.Values{"arn:aws:s3:::" + a.policy.Bucket, "arn:aws:s3:::" + a.policy.Bucket + "/*"}}
		if principal {
			statement.Principal = iam.Principal{"AWS": {grant.Role.String()}}
			must(t, a.b.SetBucketPolicy(testContext(t), a.policy.Bucket, iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{statement}}))
			return
		}
		permissions := iam.PermissionPolicy(grant)
		permissions.Statement = append(permissions.Statement, statement)
		must(t, a.b.SetPermissions(testContext(t), a.policy, permissions))
	}
}

// granted replaces what the role may do.
func granted(edit func(*iam.Grant)) func(*testing.T, *access) {
	return func(t *testing.T, a *access) {
		t.Helper()
		grant := a.policy.Grant()
		edit(&grant)
		must(t, a.b.SetPermissions(testContext(t), a.policy, iam.PermissionPolicy(grant)))
	}
}

const probe = "actions: [s3:GetObject]\nreader: {inject: true, probeKey: config.json}"

var faults = map[string]fault{
	"the token of another ServiceAccount": {by: "STS", want: diagnosis.WrongSubject, check: "token", says: ":other", start: token(func(t *testing.T, a *access) string {
		t.Helper()
		p := created(t, cluster, pod(a.namespace, "other", account("other")))
		text, err := cluster.Token(testContext(t), p, "sts.amazonaws.com", 600)
		must(t, err)
		return text
	})},
	"a token for another audience": {by: "STS", want: diagnosis.WrongAudience, check: "token", says: `"https://vault.example.com"`, start: token(func(t *testing.T, a *access) string {
		t.Helper()
		text, err := cluster.Token(testContext(t), a.pod(t, "other-audience"), "https://vault.example.com", 600)
		must(t, err)
		return text
	})},
	"a token of another cluster": {by: "STS", want: diagnosis.WrongIssuer, check: "token", says: "https://other.example.com", start: token(func(_ *testing.T, a *access) string {
		c := claims(a)
		c["iss"] = "https://other.example.com"
		return signed(c)
	})},
	"an expired token": {by: "STS", want: diagnosis.TokenExpired, check: "token", says: "", start: token(func(_ *testing.T, a *access) string {
		c := claims(a)
		c["exp"] = time.Now().Add(-time.Hour).Unix()
		return signed(c)
	})},
	"a token with a forged signature": {by: "STS", want: diagnosis.TokenRefused, check: "session", start: token(func(_ *testing.T, a *access) string { return signed(claims(a)) })},
	"no token":                        {want: diagnosis.TokenFileMissing, check: "token", says: "no such file", start: environment("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/nowhere/token")},
	"something else than a token":     {by: "STS", want: diagnosis.TokenMalformed, check: "token", start: token(func(*testing.T, *access) string { return "hello" })},

	"trust for another subject":       {by: "STS", rule: iam.ClaimMismatch, want: diagnosis.TokenRefused, check: "session", says: ":api-sa", breaks: condition(`{"StringEquals": {"HOST:aud": "sts.amazonaws.com", "HOST:sub": "system:serviceaccount:shop:api-sa"}}`)},
	"trust for another audience":      {by: "STS", rule: iam.WrongAudience, want: diagnosis.TokenRefused, check: "session", breaks: condition(`{"StringEquals": {"HOST:aud": "https://sts.amazonaws.com", "HOST:sub": "SUB"}}`)},
	"aud and sub swapped":             {by: "STS", rule: iam.SwappedClaims, want: diagnosis.TokenRefused, check: "session", breaks: condition(`{"StringEquals": {"HOST:sub": "sts.amazonaws.com", "HOST:aud": "SUB"}}`)},
	"a wildcard under StringEquals":   {by: "STS", rule: iam.LiteralWildcard, want: diagnosis.TokenRefused, check: "session", breaks: condition(`{"StringEquals": {"HOST:aud": "sts.amazonaws.com", "HOST:sub": "system:serviceaccount:*:api-sa"}}`)},
	"https:// in the condition's key": {by: "STS", rule: iam.WrongKey, want: diagnosis.TokenRefused, check: "session", breaks: condition(`{"StringEquals": {"https://HOST:aud": "sts.amazonaws.com", "https://HOST:sub": "SUB"}}`)},
	"the subject under two operators": {by: "STS", rule: iam.SplitSubject, want: diagnosis.TokenRefused, check: "session", breaks: condition(`{"StringEquals": {"HOST:aud": "sts.amazonaws.com", "HOST:sub": "SUB"}, "StringLike": {"HOST:sub": "system:serviceaccount:shop:*"}}`)},
	"trust in another provider": {by: "STS", rule: iam.PrincipalMismatch, want: diagnosis.RoleNotTrusting, check: "session", says: "trust policy", breaks: trust(func(d *iam.Document, _ *access) {
		d.Statement[0].Principal = iam.Principal{"Federated": {"arn:aws:iam::" + lab.AccountBID + ":oidc-provider/oidc.example.com"}}
	})},
	"an explicit Deny in the trust policy": {by: "STS", rule: iam.ExplicitDeny, want: diagnosis.RoleNotTrusting, check: "session", breaks: trust(func(d *iam.Document, _ *access) {
		no := d.Statement[0]
		no.Effect, no.Condition = iam.Deny, nil
		d.Statement = append(d.Statement, no)
	})},
	"no such role": {by: "STS", want: diagnosis.RoleNotTrusting, check: "session", says: "exists", breaks: func(t *testing.T, a *access) {
		t.Helper()
		name, inline := a.policy.Role.Name(), a.policy.RolePolicyName()
		_, err := a.b.IAM.DeleteRolePolicy(testContext(t), &awsiam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &inline})
		must(t, err)
		_, err = a.b.IAM.DeleteRole(testContext(t), &awsiam.DeleteRoleInput{RoleName: &name})
		must(t, err)
	}},
	"a session name of one letter": {by: "STS", want: diagnosis.InvalidRequest, check: "session", says: "oleSessionName", start: environment("AWS_ROLE_SESSION_NAME", "x")},
	"STS that can't be reached":    {want: diagnosis.Unreachable, check: "session", says: "STS: connection refused", start: environment("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")},

	"an explicit Deny in the bucket's policy": {by: "S3", want: diagnosis.ExplicitDenyBucketPolicy, check: "bucket", says: "explicit deny in a resource-based policy", breaks: deny(true)},
	"an explicit Deny in the role's policy":   {by: "S3", want: diagnosis.ExplicitDenyRolePolicy, check: "bucket", says: "explicit deny in an identity-based policy", breaks: deny(false)},
	"no grant for the object":                 {more: []string{probe}, by: "S3", want: diagnosis.NotGranted, check: "bucket", breaks: granted(func(g *iam.Grant) { g.Actions = []string{"s3:ListBucket"} })},
	"a grant for another bucket":              {by: "S3", want: diagnosis.NotGranted, check: "bucket", breaks: granted(func(g *iam.Grant) { g.Bucket = "another-bucket" })},
	"a grant for another prefix":              {more: []string{probe}, by: "S3", want: diagnosis.NotGranted, check: "bucket", breaks: granted(func(g *iam.Grant) { g.Prefix = "elsewhere/" })},
	"no such bucket": {by: "S3", want: diagnosis.BucketMissing, check: "bucket", says: "bucket does not exist", breaks: func(t *testing.T, a *access) {
		t.Helper()
		key := "config.json"
		_, err := a.b.S3.DeleteObject(testContext(t), &s3.DeleteObjectInput{Bucket: &a.policy.Bucket, Key: &key})
		must(t, err)
		_, err = a.b.S3.DeleteBucket(testContext(t), &s3.DeleteBucketInput{Bucket: &a.policy.Bucket})
		must(t, err)
	}},
	"no such object": {more: []string{"reader: {inject: true, probeKey: config.json}"}, by: "S3", want: diagnosis.KeyMissing, check: "bucket", says: "config.json", breaks: func(t *testing.T, a *access) {
		t.Helper()
		key := "config.json"
		_, err := a.b.S3.DeleteObject(testContext(t), &s3.DeleteObjectInput{Bucket: &a.policy.Bucket, Key: &key})
		must(t, err)
	}},
	// The emulator's STS serves one region and minds first; AWS's regional ones do not.
	"a bucket in another region": {by: "S3", want: diagnosis.WrongSTSEndpoint, of: diagnosis.WrongRegion, check: "identity", says: "valid region", start: environment("AWS_REGION", "eu-west-1", "AWS_DEFAULT_REGION", "eu-west-1")},
	"S3 that can't be reached":   {want: diagnosis.Unreachable, check: "bucket", says: "S3: connection refused", start: environment("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")},

	"static keys, from envFrom":   {want: diagnosis.StaticCredentials, check: "environment", start: environment("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY", "example")},
	"a profile, from envFrom":     {want: diagnosis.StaticCredentials, check: "environment", says: "AWS_PROFILE", start: environment("AWS_PROFILE", "other")},
	"a Pod that was not injected": {want: diagnosis.NotInjected, check: "environment", says: "AWS_ROLE_ARN", start: environment("AWS_ROLE_ARN", "", "AWS_WEB_IDENTITY_TOKEN_FILE", "")},
}

// judge holds pkg/iam to what the real STS has said of the trust policy: it is refused, and
// the rule names why.
func (a *access) judge(t *testing.T, rule iam.Rule) {
	t.Helper()
	token := iam.Token{Issuer: cluster.Issuer, Subject: "system:serviceaccount:" + a.namespace + ":api-sa", Audience: a.policy.Audience}
	evaluation := iam.EvaluateTrust(*a.trust, a.policy.Role, token)
	findings := append(evaluation.Findings, iam.LintTrust(*a.trust, a.policy.Role, a.policy.Audience, cluster.Issuer)...)
	if evaluation.Outcome != iam.Denied || !slices.ContainsFunc(findings, func(f iam.Finding) bool { return f.Rule == rule }) {
		t.Errorf("STS refuses, pkg/iam says %s; wanted %s among %v", evaluation.Outcome, rule, findings)
	}
}

// TestEachFaultIsRefusedAndNamed: the real STS or S3 refuses, and the reader names the
// link, the cause and the fix, with the raw answer.
func TestEachFaultIsRefusedAndNamed(t *testing.T) {
	refused := 0
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			a := newAccess(t, f.more...)
			p := a.pod(t, "app")
			if f.breaks != nil {
				f.breaks(t, a)
			}
			r := a.reader(t, p, func(start *lab.PodStart) {
				if f.start != nil {
					f.start(t, a, start)
				}
			})
			report, err := r.Report(testContext(t))
			must(t, err)
			red := ""
			for _, check := range report.Checks {
				if check.State == "Fail" {
					red = check.ID
				}
			}
			if line := report.Line(); red != f.check || !strings.HasPrefix(line, string(f.want)+": ") || !strings.Contains(line, f.says) {
				t.Errorf("red is %q, want %q with %s saying %q: %s", red, f.check, f.want, f.says, line)
			}
			said := a.problem(t, r)
			if f.by != "" {
				refused++
				if said.Answer == nil || said.Answer.Service != f.by || said.Answer.Status < 300 {
					t.Fatalf("%s did not refuse: %+v", f.by, said)
				}
				t.Logf("%s %d %s: %s", said.Answer.Service, said.Answer.Status, said.Answer.Code, said.Answer.Message)
			}
			if said.Cause != cmp.Or(f.of, f.want) || said.Fix == "" {
				t.Errorf("the object's problem: %+v", said)
			}
			if a.trust != nil {
				a.judge(t, f.rule)
			}
		})
	}
	if refused < 15 {
		t.Errorf("only %d were refused by STS or S3", refused)
	}
}
