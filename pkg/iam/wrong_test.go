package iam

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// rightPolicy is what the wrong ones are made from.
const rightPolicy = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {"Federated": "arn:aws:iam::222222222222:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/A1B2"},
      "Action": "sts:AssumeRoleWithWebIdentity",
      "Condition": {
        "StringEquals": {
          "oidc.eks.eu-west-1.amazonaws.com/id/A1B2:aud": "sts.amazonaws.com",
          "oidc.eks.eu-west-1.amazonaws.com/id/A1B2:sub": "system:serviceaccount:default:api-sa"
        }
      }
    }
  ]
}`

var (
	testRole  = mustRole("arn:aws:iam::222222222222:role/s3-reader-role")
	testToken = Token{
		Issuer: "https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2", Audience: "sts.amazonaws.com", Subject: "system:serviceaccount:default:api-sa",
	}
)

func mustRole(s string) RoleARN {
	role, err := ParseRoleARN(s)
	if err != nil {
		panic(err)
	}
	return role
}

const (
	host      = `oidc.eks.eu-west-1.amazonaws.com/id/A1B2`
	provider  = `arn:aws:iam::222222222222:oidc-provider/` + host
	aud       = `"` + host + `:aud": "sts.amazonaws.com"`
	sub       = `"` + host + `:sub": "system:serviceaccount:default:api-sa"`
	subject   = `"system:serviceaccount:default:api-sa"`
	action    = `"sts:AssumeRoleWithWebIdentity"`
	principal = `{"Federated": "` + provider + `"}`
)

// wrongPolicies are mistakes that people make: what is replaced in the right policy by
// what, and what is said of it. refused says whether IAM lets the token in all the same.
var wrongPolicies = map[string]struct {
	replace, by string
	want        string
	lets        bool
}{
	"no JSON":                                   {`"Allow",`, `"Allow"`, "is no JSON", false},
	"the same operator twice":                   {`"StringEquals": {`, `"StringEquals": {}, "StringEquals": {`, "a key stands twice", false},
	"Conditions instead of Condition":           {`"Condition"`, `"Conditions"`, "element that IAM does not know", false},
	"no statement":                              {rightPolicy[strings.Index(rightPolicy, "[")+1 : strings.LastIndex(rightPolicy, "]")], ``, "has no Statement", false},
	"a principal that is a text":                {principal, `"` + provider + `"`, `a Principal is "*" or an object`, false},
	"a version that is today's date":            {`2012-10-17`, `2026-11-25`, "is no version of IAM's policy language", true},
	"allow in small letters":                    {`"Allow"`, `"allow"`, "write Allow or Deny", false},
	"a Resource":                                {`"Action":`, `"Resource": "*", "Action":`, "has no Resource", true},
	"NotPrincipal":                              {`"Principal"`, `"NotPrincipal"`, "takes no NotPrincipal", false},
	"NotAction":                                 {`"Action": ` + action, `"NotAction": "sts:AssumeRole"`, "names what is not meant", true},
	"no action":                                 {`"Action": ` + action + `,`, ``, "Action: is missing", false},
	"AssumeRole for a token":                    {action, `"sts:AssumeRole"`, "is for principals with AWS credentials", false},
	"SAML's action":                             {action, `"sts:AssumeRoleWithSAML"`, "is for SAML assertions", false},
	"every action of STS":                       {action, `"sts:*"`, "allows more than a token needs", true},
	"an action of S3":                           {action, `["sts:AssumeRoleWithWebIdentity", "s3:GetObject"]`, "is no action of STS", true},
	"no principal":                              {`"Principal": ` + principal + `,`, ``, "Principal: is missing", false},
	"anyone":                                    {principal, `"*"`, "trusts every account and every identity provider", true},
	"EKS Pod Identity's principal":              {principal, `{"Service": "pods.eks.amazonaws.com"}`, "is a service of AWS", false},
	"the node's role as the principal":          {principal, `{"AWS": "arn:aws:iam::111111111111:role/node"}`, "has AWS credentials and needs no web identity", false},
	"the ID of a deleted role":                  {principal, `{"AWS": "AROAJQABLZS4A3QDU576Q"}`, "is the ID of a user or role that was deleted", false},
	"an unknown kind of principal":              {principal, `{"OIDC": "` + provider + `"}`, "IAM knows no such kind of principal", false},
	"the issuer's URL as the provider":          {provider, `https://` + host, "is the issuer's URL, not the provider's ARN", false},
	"the issuer alone as the provider":          {provider, host, "is no ARN: write", false},
	"a SAML provider":                           {provider, `arn:aws:iam::222222222222:saml-provider/corp`, "is a SAML provider", false},
	"a role as the provider":                    {provider, `arn:aws:iam::222222222222:role/x`, "names no OIDC provider", false},
	"a provider with a region":                  {provider, `arn:aws:iam:eu-west-1:222222222222:oidc-provider/` + host, "names the region", false},
	"a provider with https://":                  {provider, `arn:aws:iam::222222222222:oidc-provider/https://` + host, "holds the issuer with its scheme", false},
	"a provider without an issuer":              {provider, `arn:aws:iam::222222222222:oidc-provider/`, "names no issuer behind", false},
	"any provider":                              {provider, `arn:aws:iam::222222222222:oidc-provider/*`, "takes none in a federated principal", false},
	"the provider of the cluster's account":     {provider, `arn:aws:iam::111111111111:oidc-provider/` + host, "STS looks for the provider in the role's own account", false},
	"a provider of another partition":           {provider, `arn:aws-cn:iam::222222222222:oidc-provider/` + host, "is of the partition aws-cn", false},
	"an account that was never filled in":       {`222222222222`, `<ACCOUNT_ID>`, "is a placeholder that was never filled in", false},
	"a region that was never filled in":         {aud, `"oidc.eks.region-code.amazonaws.com/id/A1B2:aud": "sts.amazonaws.com"`, `"region-code" in the key is a placeholder`, false},
	"AWS's example ID":                          {sub, `"oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE:sub": ` + subject, "in the key is a placeholder", false},
	"a shell variable in the subject":           {subject, `"system:serviceaccount:$NAMESPACE:api-sa"`, `"$NAMESPACE" in the value is a placeholder`, false},
	"a Terraform variable in the subject":       {subject, `"system:serviceaccount:${var.namespace}:api-sa"`, `"${var.namespace}" in the value is a placeholder`, false},
	"no condition":                              {aud + ",\n          " + sub, ``, "asks for no audience", true},
	"no audience":                               {aud + ",", ``, "asks for no audience, so a token that was made for somebody else", true},
	"no subject":                                {",\n          " + sub, ``, "every ServiceAccount of the cluster may assume the role", true},
	"https:// in the audience's key":            {aud, `"https://` + host + `:aud": "sts.amazonaws.com"`, "the key holds the issuer with https://", false},
	"https:// in the subject's key":             {sub, `"https://` + host + `:sub": ` + subject, `A1B2:sub"]: the key holds the issuer with https://`, false},
	"a slash behind the issuer in the key":      {aud, `"` + host + `/:aud": "sts.amazonaws.com"`, "the key has a slash between", false},
	"a key without the slash of the provider":   {provider, provider + "/", "the key lacks the slash at the issuer's end", false},
	"the ARN in the key":                        {sub, `"` + provider + `:sub": ` + subject, "the key holds the provider's ARN", false},
	"no issuer in the key":                      {sub, `"sub": ` + subject, "the key lacks the issuer", false},
	"the key of another cluster":                {sub, `"oidc.eks.eu-west-1.amazonaws.com/id/C3D4:sub": ` + subject, "the key is of another issuer", false},
	"the audience as the subject":               {subject, `"sts.amazonaws.com"`, `A1B2:sub"]: "sts.amazonaws.com" is what the other claim says`, false},
	"the subject as the audience":               {`"sts.amazonaws.com"`, subject, `A1B2:aud"]: "system:serviceaccount:default:api-sa" is what the other claim says`, false},
	"the subject under both operators":          {`"StringEquals": {`, `"StringLike": {"` + host + `:sub": "system:serviceaccount:team-*:api"}, "StringEquals": {`, "and both must hold at once", false},
	"a wildcard under StringEquals":             {subject, `"system:serviceaccount:default:*"`, "which StringEquals takes literally", false},
	"every subject":                             {`"StringEquals": {` + "\n          " + aud + ",\n          " + sub, `"StringEquals": {` + aud + `}, "StringLike": {"` + host + `:sub": "system:serviceaccount:*:*"`, "is every ServiceAccount of the cluster", true},
	"the audience with https://":                {`"sts.amazonaws.com"`, `"https://sts.amazonaws.com"`, "has a scheme or a slash too many", false},
	"the API server's audience":                 {`"sts.amazonaws.com"`, `"https://kubernetes.default.svc"`, "is a URL (the API server's own audience is one)", false},
	"a regional audience":                       {`"sts.amazonaws.com"`, `"sts.eu-west-1.amazonaws.com"`, `is "sts.eu-west-1.amazonaws.com", tokens are requested for`, false},
	"a space behind the audience":               {`"sts.amazonaws.com"`, `"sts.amazonaws.com "`, "begins or ends with white space", false},
	"a subject with a slash":                    {subject, `"system:serviceaccount:default/api-sa"`, "separated by a colon", false},
	"a subject without its beginning":           {subject, `"default:api-sa"`, "is no ServiceAccount's subject", false},
	"a subject without a name":                  {subject, `"system:serviceaccount:api-sa"`, "lacks a part", false},
	"a subject with a part too many":            {subject, `"system:serviceaccount:a1:default:api-sa"`, "has too many parts", false},
	"a subject that begins wrongly":             {subject, `"system:serviceaccounts:default:api-sa"`, "begins wrongly", false},
	"a subject with capital letters":            {subject, `"system:serviceaccount:default:Api-SA"`, "has capital letters", false},
	"a subject that is no name":                 {subject, `"system:serviceaccount:de_fault:api-sa"`, "is no name in Kubernetes", false},
	"an operator that IAM does not have":        {`"StringEquals"`, `"StringMatches"`, "IAM has no such condition operator", false},
	"everybody but one":                         {`"StringEquals": {` + "\n          " + aud + ",\n          " + sub, `"StringEquals": {` + aud + `}, "StringNotEquals": {"` + host + `:sub": "system:serviceaccount:kube-system:x"`, "lets everybody through but those it names", true},
	"ForAllValues":                              {`"StringEquals": {`, `"ForAllValues:StringEquals": {`, "holds for a token without the claim too", true},
	"as good as every subject":                  {`"StringEquals": {` + "\n          " + aud + ",\n          " + sub, `"StringEquals": {` + aud + `}, "StringLike": {"` + host + `:sub": "s*"`, `"s*" is every ServiceAccount of the cluster`, true},
	"any Namespace's any ServiceAccount":        {`"StringEquals": {` + "\n          " + aud + ",\n          " + sub, `"StringEquals": {` + aud + `}, "StringLike": {"` + host + `:sub": "system:serviceaccount:?*:*"`, `"system:serviceaccount:?*:*" is every`, true},
	"every audience":                            {`"StringEquals": {` + "\n          " + aud + ",\n          " + sub, `"StringLike": {"` + host + `:aud": "*", ` + sub, "takes every audience", true},
	"a wildcard without regard to case":         {`"StringEquals": {` + "\n          " + aud + ",\n          " + sub, `"StringEqualsIgnoreCase": {` + aud + `, "` + host + `:sub": "system:serviceaccount:Default:*"`, `"system:serviceaccount:Default:*" has a wildcard`, false},
	"a claim that is none":                      {sub, sub + `, "` + host + `:namespace": "default"`, `STS sets no "namespace" of a ServiceAccount's token`, false},
	"no value":                                  {subject, `[]`, "lists no value, so nothing matches", false},
	"more characters than IAM takes by default": {subject, manySubjects(60), "IAM's default quota for a trust policy is 2048", true},
}

func manySubjects(n int) string {
	list := []string{subject}
	for i := range n {
		list = append(list, fmt.Sprintf(`"system:serviceaccount:team-%03d:api-sa"`, i))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// TestEachMistakeHasASentence: one wrong policy each, its own sentence, and whether STS
// would take the token all the same.
func TestEachMistakeHasASentence(t *testing.T) {
	if len(wrongPolicies) < 40 {
		t.Fatalf("%d wrong policies", len(wrongPolicies))
	}
	sentences := map[string]string{}
	for name, test := range wrongPolicies {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(rightPolicy, test.replace, test.by, 1)
			if text == rightPolicy {
				t.Fatalf("nothing was replaced")
			}
			if other, taken := sentences[test.want]; taken {
				t.Errorf("has the sentence of %q", other)
			}
			sentences[test.want] = name
			document, err := ParseDocument([]byte(text))
			if err != nil {
				if !strings.Contains(err.Error(), test.want) {
					t.Fatalf("want %q, got: %v", test.want, err)
				}
				return
			}
			findings := LintTrust(document, testRole, "sts.amazonaws.com", testToken.Issuer)
			said := make([]string, len(findings))
			for i, finding := range findings {
				said[i] = finding.String()
			}
			if !strings.Contains(strings.Join(said, "\n"), test.want) {
				t.Errorf("want %q, got:\n%s", test.want, strings.Join(said, "\n"))
			}
			if len(findings) > 2 {
				t.Errorf("one mistake, %d sentences:\n%s", len(findings), strings.Join(said, "\n"))
			}
			evaluation := EvaluateTrust(document, testRole, testToken)
			if lets := evaluation.Outcome == Allowed; lets != test.lets {
				t.Errorf("outcome %s: %v", evaluation.Outcome, evaluation.Findings)
			}
			if evaluation.Outcome != Allowed && len(evaluation.Findings) == 0 {
				t.Error("refused without saying why")
			}
		})
	}
}

// rightPolicies raise no alarm, and let in whom they name.
func TestRightPoliciesRaiseNoAlarm(t *testing.T) {
	replaced := func(pairs ...string) string {
		text := rightPolicy
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not there", pairs[i])
			}
			text = strings.Replace(text, pairs[i], pairs[i+1], 1)
		}
		return text
	}
	for name, text := range map[string]string{
		"as it is generated":         rightPolicy,
		"a statement without a list": replaced("[\n    {", "{", "}\n  ]\n}", "}\n}"),
		"lists of one":               replaced(action, "["+action+"]", subject, "["+subject+"]", `"`+provider+`"`, `["`+provider+`"]`),
		"several subjects":           replaced(subject, `["system:serviceaccount:a:b", `+subject+`]`),
		"patterns":                   replaced(sub, `"x:y": "z"`, `"StringEquals": {`, `"StringLike": {"`+host+`:sub": ["system:serviceaccount:def*:api-sa", "system:serviceaccount:other:x"]}, "StringEquals": {`, `,`+"\n          "+`"x:y": "z"`, ``),
		"all under StringLike":       replaced(`"StringEquals"`, `"StringLike"`),
		"ForAnyValue":                replaced(`"StringEquals"`, `"ForAnyValue:StringEquals"`),
		"IfExists":                   replaced(`"StringEquals"`, `"StringEqualsIfExists"`),
		"without regard to case":     replaced(`"StringEquals"`, `"StringEqualsIgnoreCase"`),
		"a key in capital letters":   replaced(host+`:aud`, strings.ToUpper(host)+`:AUD`),
		"an action in small letters": replaced(action, `"sts:assumerolewithwebidentity"`),
		"several audiences":          replaced(`"sts.amazonaws.com"`, `["https://vault.example.com", "sts.amazonaws.com"]`),
		"a Deny of all but one": replaced(`"Statement": [`, `"Statement": [{"Effect": "Deny", "Principal": {"Federated": "`+provider+`"}, "Action": `+action+
			`, "Condition": {"StringNotEquals": {"`+host+`:sub": "system:serviceaccount:default:api-sa"}}},
			{"Effect": "Deny", "Principal": {"Federated": "`+provider+`"}, "Action": `+action+`, "Condition": {"StringNotLike": {"`+host+`:aud": "sts.*"}}},`),
		"GitHub's Actions beside": replaced(`"Statement": [`, `"Statement": [{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::222222222222:oidc-provider/token.actions.githubusercontent.com"}, "Action": `+
			action+`, "Condition": {"StringEquals": {"token.actions.githubusercontent.com:aud": "sts.amazonaws.com"}, "StringLike": {"token.actions.githubusercontent.com:sub": "repo:Org/Repo:*"}}},`),
		"Cognito beside": replaced(`"Statement": [`, `"Statement": [{"Effect": "Allow", "Principal": {"Federated": "cognito-identity.amazonaws.com"}, "Action": `+
			action+`, "Condition": {"StringEquals": {"cognito-identity.amazonaws.com:aud": "eu-west-1:1234"}, "ForAnyValue:StringLike": {"cognito-identity.amazonaws.com:amr": "authenticated"}}},`),
		"SAML beside":            replaced(`"Statement": [`, `"Statement": [{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::222222222222:saml-provider/corp"}, "Action": "sts:AssumeRoleWithSAML", "Condition": {"StringEquals": {"SAML:aud": "https://signin.aws.amazon.com/saml"}}},`),
		"a session tag":          replaced(action, `[`+action+`, "sts:TagSession"]`),
		"amr beside":             replaced(`"StringEquals": {`, `"ForAllValues:StringLike": {"`+host+`:amr": "*"}, "StringEquals": {`),
		"an old version":         replaced(`2012-10-17`, `2008-10-17`),
		"no version":             replaced(`"Version": "2012-10-17",`, ``),
		"a policy variable":      replaced(subject, `"${`+host+`:sub}"`),
		"the provider's own key": replaced(`"StringEquals": {`, `"ArnLike": {"aws:FederatedProvider": "arn:aws:iam::*:oidc-provider/*"}, "StringEquals": {`),
		"Null":                   replaced(`"StringEquals": {`, `"Null": {"`+host+`:sub": "false"}, "StringEquals": {`),
		"a statement for AWS principals": replaced(`"Statement": [`,
			`"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::222222222222:root"}, "Action": "sts:AssumeRole"},`),
		"a service": replaced(`"Statement": [`, `"Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},`),
		"a Deny of others": replaced(`"Statement": [`, `"Statement": [{"Effect": "Deny", "Principal": {"Federated": "`+provider+`"}, "Action": `+action+
			`, "Condition": {"StringEquals": {"`+host+`:sub": "system:serviceaccount:default:evil"}}},`),
		"another cluster beside": replaced(`"Statement": [`, `"Statement": [{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::222222222222:oidc-provider/issuer.example.com"}, "Action": `+
			action+`, "Condition": {"StringEquals": {"issuer.example.com:aud": "sts.amazonaws.com", "issuer.example.com:sub": `+subject+`}}},`),
	} {
		t.Run(name, func(t *testing.T) {
			document, err := ParseDocument([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if findings := LintTrust(document, testRole, "sts.amazonaws.com", testToken.Issuer); len(findings) > 0 {
				t.Errorf("false alarm: %v", findings)
			}
			if evaluation := EvaluateTrust(document, testRole, testToken); evaluation.Outcome != Allowed {
				t.Errorf("%s: %v", evaluation.Outcome, evaluation.Findings)
			}
		})
	}
}

// TestGeneratedPoliciesAreRight: what is generated is let through by the evaluator for
// its subjects and for nobody else, and raises no alarm.
func TestGeneratedPoliciesAreRight(t *testing.T) {
	for _, partition := range []string{"aws", "aws-cn", "aws-us-gov"} {
		role := mustRole("arn:" + partition + ":iam::222222222222:role/path/reader")
		for _, subjects := range [][]v1alpha1.Subject{
			{{Namespace: "default", ServiceAccount: "api-sa"}},
			{{Namespace: "default", ServiceAccount: "api-sa"}, {Namespace: "shop", ServiceAccount: "api-sa"}},
			{{Namespace: "default", ServiceAccount: "api-sa"}, {Namespace: "team-*", ServiceAccount: "api-?"}},
		} {
			issuers := []string{testToken.Issuer, "https://issuer.example.com", "https://issuer.example.com/trailing/"}
			document, err := TrustPolicy(Trust{Role: role, Issuers: issuers, Audience: "sts.amazonaws.com", Subjects: subjects})
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseDocument(document.JSON())
			if err != nil || string(again.JSON()) != string(document.JSON()) {
				t.Fatalf("reading what was written: %v", err)
			}
			if findings := LintTrust(again, role, "sts.amazonaws.com"); len(findings) > 0 {
				t.Errorf("false alarm: %v\n%s", findings, document.JSON())
			}
			for _, issuer := range issuers {
				ask := func(subject, audience string) Outcome {
					return EvaluateTrust(again, role, Token{Issuer: issuer, Subject: subject, Audience: audience}).Outcome
				}
				for _, subject := range subjects {
					name := strings.NewReplacer("*", "a-b", "?", "x").Replace(SubjectClaim(subject))
					if got := ask(name, "sts.amazonaws.com"); got != Allowed {
						t.Errorf("%s: %s", name, got)
					}
					if ask(name, "other") != Denied || ask(name+"x", "sts.amazonaws.com") != Denied {
						t.Errorf("%s: another audience or subject is let in", name)
					}
				}
			}
		}
	}
}
