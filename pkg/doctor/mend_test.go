package doctor

import (
	"regexp"
	"strings"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

const (
	thisIssuer  = "https://a.example.com"
	otherIssuer = "https://b.example.com"
	document    = "apiVersion: bucket-access.io/v1alpha1\nkind: BucketAccessPolicy\nbucket: orders-data\nregion: eu-west-1\n" +
		"roleARN: arn:aws:iam::222222222222:role/teams/s3-reader-role\nsubjects: [{namespace: default, serviceAccount: api-sa}]\n"
)

// patient is a Doctor that looks at policy orders, with a token of its subject.
func patient(t *testing.T, orders string, more map[string]string) *Doctor {
	t.Helper()
	data := map[string]string{"orders": orders}
	for name, text := range more {
		data[name] = text
	}
	snapshot := policy.Build([]policy.ConfigMap{{Name: "policies", Data: data}}, nil, nil)
	entry, _ := snapshot.Lookup("orders")
	if entry.Policy == nil {
		t.Fatal(entry.Errors.ToAggregate())
	}
	return &Doctor{
		Own: "system", policy: entry.Policy, facts: &status.Facts{Policies: snapshot, Cluster: decide.Cluster{Issuer: thisIssuer}},
		live: session{token: "x", claims: &diagnosis.Claims{Issuer: thisIssuer, Subject: "system:serviceaccount:default:api-sa", Audiences: []string{"sts.amazonaws.com"}}},
	}
}

func printed(t *testing.T, command string) iam.Document {
	t.Helper()
	found := regexp.MustCompile(`^aws iam update-assume-role-policy --role-name s3-reader-role --policy-document '([^']+)'$`).FindStringSubmatch(command)
	if found == nil {
		t.Fatalf("command: %s", command)
	}
	read, err := iam.ParseDocument([]byte(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// TestATrustPolicyIsMendedWithoutHarm: a command that replaces the whole document holds what
// other clusters, people and policies need; where not that much is known, none is printed.
func TestATrustPolicyIsMendedWithoutHarm(t *testing.T) {
	statement := func(issuer, subject string) string {
		return `{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::222222222222:oidc-provider/` + issuer + `"}, "Action": "sts:AssumeRoleWithWebIdentity",
			"Condition": {"StringEquals": {"` + issuer + `:aud": "sts.amazonaws.com", "` + issuer + `:sub": "system:serviceaccount:default:` + subject + `"}}}`
	}
	const (
		people = `{"Sid": "people", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::222222222222:root"}, "Action": "sts:AssumeRole"}`
		look   = "kubectl bucket-access trust-policy orders --from-cluster --live"
	)
	trust := func(statements ...string) string {
		return `{"Version": "2012-10-17", "Statement": [` + strings.Join(statements, ",") + `]}`
	}
	reports := strings.NewReplacer("orders-data", "reports-data", "api-sa", "report-sa").Replace(document)

	d := patient(t, document, map[string]string{"reports": reports, "elsewhere": reports + "issuer: " + otherIssuer + "\n"})
	check := d.judgeTrust(trust(people, statement("a.example.com", "wrong-sa"), statement("b.example.com", "theirs")))
	if check.State != Fail || !strings.Contains(check.Fix, "in place of Statement[1]") {
		t.Fatalf("%+v", check)
	}
	mended := printed(t, check.Command)
	if first := mended.Statement[0]; first.Sid != "people" || first.Principal["AWS"][0] != "arn:aws:iam::222222222222:root" || first.Action[0] != "sts:AssumeRole" {
		t.Errorf("people's access is gone: %s", mended.JSON())
	}
	for issuer, subjects := range map[string][]string{thisIssuer: {"api-sa", "report-sa"}, otherIssuer: {"theirs"}} {
		for _, subject := range subjects {
			token := iam.Token{Issuer: issuer, Subject: "system:serviceaccount:default:" + subject, Audience: "sts.amazonaws.com"}
			if got := iam.EvaluateTrust(mended, d.policy.Role, token); got.Outcome != iam.Allowed {
				t.Errorf("%s of %s is %s by %s", subject, issuer, got.Outcome, mended.JSON())
			}
		}
	}
	if len(mended.Statement) != 4 || strings.Contains(string(mended.JSON()), "wrong-sa") {
		t.Errorf("%s", mended.JSON())
	}
	if check := d.judgeTrust(trust(people)); !strings.Contains(check.Fix, "all that are there are kept") || len(printed(t, check.Command).Statement) != 3 {
		t.Errorf("%+v", check)
	}

	for name, test := range map[string]struct {
		document string
		state    State
	}{
		"only unwise":                {trust(statement("a.example.com", "api-sa"), strings.Replace(statement("a.example.com", "api-sa"), `"a.example.com:aud": "sts.amazonaws.com", `, "", 1)), Warn},
		"a Deny that is everybody's": {trust(statement("a.example.com", "api-sa"), `{"Effect": "Deny", "Principal": "*", "Action": "sts:*"}`), Fail},
		"unreadable":                 {`{"Statement": [{"Novelty": 1}]}`, Fail},
		"it depends":                 {trust(strings.Replace(statement("a.example.com", "api-sa"), `"Condition": {`, `"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, `, 1)), Warn},
	} {
		t.Run(name, func(t *testing.T) {
			if check := d.judgeTrust(test.document); check.State != test.state || check.Look != look || check.Command != "" || check.Fix == "" {
				t.Errorf("%+v", check)
			}
		})
	}
	for _, cause := range []diagnosis.Cause{diagnosis.RoleNotTrusting, diagnosis.TokenRefused} {
		if check := d.diagnosed(diagnosis.Of(cause, d.awsFacts(), "")); check.Look != look || check.Command != "" {
			t.Errorf("%s: %+v", cause, check)
		}
	}
	if got := d.missingRole().Command; !strings.HasPrefix(got, "aws iam create-role --role-name s3-reader-role --path /teams/ --assume-role-policy-document '{") || !strings.Contains(got, "report-sa") {
		t.Errorf("%s", got)
	}
}

// TestAGrantHasANameOfItsOwn, so that it writes over no other policy's; and it is printed
// only where it helps: without the key's ARN it would grant nothing of KMS.
func TestAGrantHasANameOfItsOwn(t *testing.T) {
	d := patient(t, document, nil)
	if got := d.mendAccount(diagnosis.NotGranted); !strings.HasPrefix(got, "aws iam put-role-policy --role-name s3-reader-role --policy-name bucket-access-orders --policy-document '{") {
		t.Error(got)
	}
	check := d.diagnosed(diagnosis.Of(diagnosis.KMSDenied, d.awsFacts(), ""))
	if check.Command != "kubectl -n system edit configmap policies" || !strings.HasPrefix(check.Fix, "First set kmsKeyARN of policy orders") {
		t.Errorf("%+v", check)
	}
	d = patient(t, document+"kmsKeyARN: arn:aws:kms:eu-west-1:222222222222:key/1234\n", nil)
	if check := d.diagnosed(diagnosis.Of(diagnosis.KMSDenied, d.awsFacts(), "")); !strings.Contains(check.Command, "kms:Decrypt") || strings.Contains(check.Fix, "First") {
		t.Errorf("%+v", check)
	}
}

// TestAnAudienceIsOneWord to the shell that an annotation is pasted into.
func TestAnAudienceIsOneWord(t *testing.T) {
	d := patient(t, document+"audience: \"a&b;$HOME'\"\n", nil)
	d.account = inject.ServiceAccountView{Namespace: "default", Name: "api-sa", Policy: decide.Label{Value: "orders", Set: true}}
	check := d.serviceAccount(t.Context())
	if want := ` '` + v1alpha1.EKSAnnotationAudience + `=a&b;$HOME'\''' `; !strings.Contains(check.Command, want) || !strings.Contains(check.Command, " "+v1alpha1.EKSAnnotationRoleARN+"=arn:aws") {
		t.Errorf("want %s: %s", want, check.Command)
	}
}
