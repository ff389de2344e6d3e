package iam

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

func TestTrustPolicyOfSeveralClusters(t *testing.T) {
	document, err := TrustPolicy(Trust{
		Role: testRole, Audience: "sts.amazonaws.com", Issuers: []string{"https://b.example.com", "https://a.example.com", "https://b.example.com"},
		Subjects: []v1alpha1.Subject{{Namespace: "shop", ServiceAccount: "*"}, {Namespace: "default", ServiceAccount: "api-sa"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	statement := func(host string) Statement {
		return Statement{
			Effect: "Allow", Principal: Principal{"Federated": {"arn:aws:iam::222222222222:oidc-provider/" + host}}, Action: Values{"sts:AssumeRoleWithWebIdentity"},
			Condition: Condition{
				"StringEquals": {host + ":aud": {"sts.amazonaws.com"}},
				"StringLike":   {host + ":sub": {"system:serviceaccount:default:api-sa", "system:serviceaccount:shop:*"}},
			},
		}
	}
	want := Document{Version: "2012-10-17", Statement: Statements{statement("a.example.com"), statement("b.example.com")}}
	if diff := cmp.Diff(want, document); diff != "" {
		t.Fatal(diff)
	}
	if got := (Document{Version: "2012-10-17", Statement: Statements{{Sid: "a b", Effect: "Allow"}}}).Size(); got != len(`{"Version":"2012-10-17","Statement":[{"Sid":"ab","Effect":"Allow"}]}`) {
		t.Errorf("size %d counts white space", got)
	}
}

func TestTrustPolicySaysWhatIsMissing(t *testing.T) {
	_, err := TrustPolicy(Trust{Issuers: []string{"http://x", "https://x:8443", "https://" + strings.Repeat("x", 260)}})
	for _, want := range []string{`issuer "http://x" is no issuer`, "has a port", "IAM takes 255", "no subject", "no role", "no audience"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if _, err := TrustPolicy(Trust{}); err == nil || !strings.Contains(err.Error(), "no issuer") {
		t.Error(err)
	}
}

func TestPermissionPolicy(t *testing.T) {
	grant := Grant{
		Role: mustRole("arn:aws-cn:iam::222222222222:role/reader"), Bucket: "orders-data", Region: "cn-north-1", Prefix: "2026/",
		Actions:   []string{"s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation", "s3:PutObject"},
		KMSKeyARN: "arn:aws-cn:kms:cn-north-1:222222222222:key/1234",
	}
	want := Document{Version: "2012-10-17", Statement: Statements{
		{Sid: "ListBucket", Effect: "Allow", Action: Values{"s3:ListBucket"}, Resource: Values{"arn:aws-cn:s3:::orders-data"},
			Condition: Condition{"StringLike": {"s3:prefix": {"2026/*"}}}},
		{Sid: "Bucket", Effect: "Allow", Action: Values{"s3:GetBucketLocation"}, Resource: Values{"arn:aws-cn:s3:::orders-data"}},
		{Sid: "Objects", Effect: "Allow", Action: Values{"s3:GetObject", "s3:PutObject"}, Resource: Values{"arn:aws-cn:s3:::orders-data/2026/*"}},
		{Sid: "KMSKey", Effect: "Allow", Action: Values{"kms:Decrypt", "kms:GenerateDataKey"}, Resource: Values{"arn:aws-cn:kms:cn-north-1:222222222222:key/1234"},
			Condition: Condition{"StringEquals": {"kms:ViaService": {"s3.cn-north-1.amazonaws.com.cn"}}}},
	}}
	if diff := cmp.Diff(want, PermissionPolicy(grant)); diff != "" {
		t.Error(diff)
	}
	grant.Prefix, grant.KMSKeyARN, grant.Actions = "", "", []string{"s3:GetObject"}
	want = Document{Version: "2012-10-17", Statement: Statements{
		{Sid: "Objects", Effect: "Allow", Action: Values{"s3:GetObject"}, Resource: Values{"arn:aws-cn:s3:::orders-data/*"}},
	}}
	if diff := cmp.Diff(want, PermissionPolicy(grant)); diff != "" {
		t.Error(diff)
	}
	for _, statement := range append(BucketPolicy(grant).Statement, KMSKeyStatement(grant)) {
		if diff := cmp.Diff(Principal{"AWS": {"arn:aws-cn:iam::222222222222:role/reader"}}, statement.Principal); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEvaluationSaysWhichElementFails(t *testing.T) {
	document, err := ParseDocument([]byte(rightPolicy))
	if err != nil {
		t.Fatal(err)
	}
	deny := Statement{Effect: Deny, Principal: Principal{Anyone: {Anyone}}, Action: Values{"sts:*"}}
	address := Condition{"IpAddress": {"aws:SourceIp": {"10.0.0.0/8"}}}
	with := func(edit func(*Document)) Document {
		copied, _ := ParseDocument([]byte(rightPolicy))
		edit(&copied)
		return copied
	}
	for name, test := range map[string]struct {
		document Document
		token    Token
		outcome  Outcome
		want     string
	}{
		"another subject":  {document, Token{testToken.Issuer, "system:serviceaccount:default:default", "sts.amazonaws.com"}, Denied, `A1B2:sub"]: wants "system:serviceaccount:default:api-sa", the token says "system:serviceaccount:default:default"`},
		"another audience": {document, Token{testToken.Issuer, testToken.Subject, "x"}, Denied, `A1B2:aud"]: wants "sts.amazonaws.com", the token says "x"`},
		"another issuer":   {document, Token{"https://other.example.com", testToken.Subject, testToken.Audience}, Denied, `the token comes from the Federated "arn:aws:iam::222222222222:oidc-provider/other.example.com"`},
		"a Deny behind":    {with(func(d *Document) { d.Statement = append(d.Statement, deny) }), testToken, Denied, "Statement[1]: denies this token explicitly"},
		"a Deny that depends": {with(func(d *Document) {
			d.Statement = append(d.Statement, Statement{Effect: Deny, Principal: deny.Principal, Action: deny.Action, Condition: address})
		}), testToken, Undecided, "depends on the request"},
		"an Allow that depends": {with(func(d *Document) { d.Statement[0].Condition["IpAddress"] = address["IpAddress"] }), testToken, Undecided, "depends on the request"},
		"an unknown variable":   {with(func(d *Document) { d.Statement[0].Condition["StringEquals"][host+":sub"] = Values{"${aws:userid}"} }), testToken, Undecided, "policy variable"},
		"an Allow beside one that depends": {with(func(d *Document) {
			d.Statement = append(d.Statement, Statement{Effect: Allow, Principal: deny.Principal, Action: deny.Action, Condition: address})
		}), testToken, Allowed, ""},
		"a key that is never there": {with(func(d *Document) { d.Statement[0].Condition["StringLike"] = map[string]Values{"saml:aud": {"*"}} }), testToken, Denied, "STS never sets this key"},
		"a negated key not there":   {with(func(d *Document) { d.Statement[0].Condition["StringNotLike"] = map[string]Values{"saml:aud": {"*"}} }), testToken, Allowed, ""},
		"ForAnyValue, negated, absent": {with(func(d *Document) {
			d.Statement[0].Condition["ForAnyValue:StringNotLike"] = map[string]Values{"saml:aud": {"*"}}
		}), testToken, Denied, "STS never sets"},
		"a negated value": {with(func(d *Document) {
			d.Statement[0].Condition["StringNotEquals"] = map[string]Values{host + ":sub": {testToken.Subject}}
		}), testToken, Denied, "excludes"},
		"Null of what is there": {with(func(d *Document) { d.Statement[0].Condition["Null"] = map[string]Values{host + ":sub": {"true"}} }), testToken, Denied, "presence"},
		"a variable in an old version": {with(func(d *Document) {
			d.Version, d.Statement[0].Condition["StringEquals"][host+":sub"] = "2008-10-17", Values{"${" + host + ":sub}"}
		}), testToken, Denied, `wants "${`},
		"a Deny to every AWS principal": {with(func(d *Document) {
			d.Statement = append(d.Statement, Statement{Effect: Deny, Principal: Principal{"AWS": {Anyone}}, Action: deny.Action})
		}), testToken, Undecided, `of which AWS does not say`},
		"NotAction":             {with(func(d *Document) { d.Statement[0].NotAction = Values{"sts:*"} }), testToken, Denied, "excludes"},
		"only a Deny of others": {with(func(d *Document) { d.Statement[0].Effect = Deny }), Token{testToken.Issuer, "x", "x"}, Denied, "no statement allows anything"},
	} {
		t.Run(name, func(t *testing.T) {
			got := EvaluateTrust(test.document, testRole, test.token)
			var said []string
			for _, finding := range got.Findings {
				said = append(said, finding.String())
			}
			if got.Outcome != test.outcome || !strings.Contains(strings.Join(said, "\n"), test.want) {
				t.Errorf("%s, want %s with %q:\n%s", got.Outcome, test.outcome, test.want, strings.Join(said, "\n"))
			}
			if (got.Outcome == Allowed) != (len(said) == 0) {
				t.Errorf("%s with %d findings", got.Outcome, len(said))
			}
		})
	}
}

func TestAVariableNeedsItsVersion(t *testing.T) {
	document, err := ParseDocument([]byte(strings.Replace(strings.Replace(rightPolicy, subject, `"${`+host+`:sub}"`, 1), "2012-10-17", "2008-10-17", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if findings := LintTrust(document, testRole, "sts.amazonaws.com"); len(findings) != 1 || findings[0].Rule != LiteralVariable {
		t.Errorf("%v", findings)
	}
}

// FuzzTrust: no document panics; writing and reading anew changes no judgement; a Deny
// of everything denies everything, and IAM's own order of statements does not matter.
func FuzzTrust(f *testing.F) {
	f.Add(rightPolicy, testToken.Subject, testToken.Audience)
	for _, test := range wrongPolicies {
		f.Add(strings.Replace(rightPolicy, test.replace, test.by, 1), testToken.Subject, testToken.Audience)
	}
	f.Fuzz(func(t *testing.T, text, subject, audience string) {
		document, err := ParseDocument([]byte(text))
		if err != nil {
			return
		}
		token := Token{Issuer: testToken.Issuer, Subject: subject, Audience: audience}
		before := EvaluateTrust(document, testRole, token)
		LintTrust(document, testRole, audience)
		if (before.Outcome == Allowed) != (len(before.Findings) == 0) {
			t.Fatalf("%s with %v", before.Outcome, before.Findings)
		}
		again, err := ParseDocument(document.JSON())
		if err != nil {
			t.Fatalf("what was written can't be read: %v\n%s", err, document.JSON())
		}
		if after := EvaluateTrust(again, testRole, token); after.Outcome != before.Outcome {
			t.Fatalf("%s became %s", before.Outcome, after.Outcome)
		}
		everyone := Statement{Effect: Deny, Principal: Principal{Anyone: {Anyone}}, Action: Values{"*"}}
		again.Statement = append(Statements{everyone}, again.Statement...)
		if after := EvaluateTrust(again, testRole, token); after.Outcome != Denied {
			t.Fatalf("denied to everyone, but %s", after.Outcome)
		}
	})
}

// TestCoversIsProven: a pattern that covers another matches all that the other matches.
func TestCoversIsProven(t *testing.T) {
	for _, test := range []struct {
		wide, narrow string
		want         bool
	}{
		{"default:*", "default:a*", true}, {"default:a*", "default:*", false}, {"default:a*", "default:api-sa", true}, {"a?", "a*", false},
		{"a*", "a?", true}, {"*a*", "*a", true}, {"?*", "*?", true}, {"*?", "?", true}, {"?", "*", false}, {"a", "a", true}, {"*b", "a*", false},
		{"a*c", "a*b*c", true}, {"a*b*c", "a*c", false}, {"", "", true}, {"**", "*", true}, {"", "*", false}, {"a??*", "a?*", false},
	} {
		if got := Covers(test.wide, test.narrow); got != test.want {
			t.Errorf("%q covers %q: %t", test.wide, test.narrow, got)
		}
	}
}

func FuzzCovers(f *testing.F) {
	f.Add("a*b?", "a?b*", "aab", "b")
	f.Fuzz(func(t *testing.T, wide, narrow, star, mark string) {
		if len(mark) != 1 || !Covers(wide, narrow) {
			return
		}
		if text := strings.NewReplacer("*", star, "?", mark).Replace(narrow); !Like(wide, text) {
			t.Fatalf("%q is said to cover %q, and does not match %q", wide, narrow, text)
		}
	})
}
