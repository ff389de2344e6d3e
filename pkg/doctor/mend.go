package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// diagnosed is a failure as pkg/diagnosis sees it, with the command that mends it in
// the bucket's account where there is one.
func (d *Doctor) diagnosed(wrong diagnosis.Diagnosis) result {
	why := string(wrong.Cause) + ": " + wrong.Title
	if wrong.Detail != "" {
		why += " (" + wrong.Detail + ")"
	}
	fix := wrong.Fix
	switch {
	case wrong.Cause == diagnosis.ProviderMissing: // of Debian 12, for one
		fix += " AWS CLIs from before April 2024 also ask for --thumbprint-list."
	case wrong.Cause == diagnosis.KMSDenied && d.policy.KMSKeyARN == "":
		fix = "First set kmsKeyARN of policy " + d.policy.Name + " to the key's ARN: without it the grant that is generated names no key. " + fix
	}
	check := failed(why, fix, d.mendAccount(wrong.Cause))
	switch wrong.Cause {
	case diagnosis.ExplicitDenyBucketPolicy:
		return check.looking("aws s3api get-bucket-policy --bucket " + d.policy.Bucket)
	case diagnosis.RoleNotTrusting, diagnosis.TokenRefused: // what the trust policy says is not known here
		return check.looking(d.lookAtTrust())
	default:
	}
	return check
}

// mendAccount is a command of the AWS CLI, for whoever owns the bucket's account.
func (d *Doctor) mendAccount(cause diagnosis.Cause) string {
	role := d.policy.Role
	issuer := d.awsFacts().Expect.Issuer
	switch cause {
	case diagnosis.ProviderMissing:
		return fmt.Sprintf("aws iam create-open-id-connect-provider --url %s --client-id-list %s", word(issuer), quote(d.policy.Audience))
	case diagnosis.WrongAudience:
		return fmt.Sprintf("aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn %s --client-id %s",
			word(iam.ProviderARN(role, issuer)), quote(d.policy.Audience))
	case diagnosis.KMSDenied:
		if d.policy.KMSKeyARN == "" {
			return d.editPolicy()
		}
		return d.grant()
	case diagnosis.NotGranted, diagnosis.NotGrantedOrDenied, diagnosis.MissingOrNotGranted:
		return d.grant()
	case diagnosis.WrongRegion, diagnosis.WrongIssuer, diagnosis.WrongSubject:
		return d.editPolicy()
	default:
	}
	return ""
}

func (d *Doctor) grant() string {
	return fmt.Sprintf("aws iam put-role-policy --role-name %s --policy-name %s --policy-document %s",
		d.policy.Role.Name(), d.policy.RolePolicyName(), quote(compact(iam.PermissionPolicy(d.policy.Grant()))))
}

func (d *Doctor) editPolicy() string {
	if entry, known := d.facts.Policies.Lookup(d.policy.Name); known {
		return d.editConfigMap(entry.Source)
	}
	return ""
}

// lookAtTrust is the command that shows what the role's trust policy lacks. It changes
// nothing: a whole document that is written anew would take from others what theirs is.
func (d *Doctor) lookAtTrust() string {
	return d.Kubectl.BucketAccess("trust-policy", d.policy.Name, "--from-cluster", "--live")
}

// judgeTrust judges the token by the role's trust policy as IAM gives it.
func (d *Doctor) judgeTrust(text string) result {
	if decoded, err := url.QueryUnescape(text); err == nil && strings.Contains(text, "%") {
		text = decoded
	}
	document, err := iam.ParseDocument([]byte(text))
	if err != nil {
		return failed("the role's trust policy can't be read: "+err.Error(), "correct it, or write the one that is generated from the policy", "").
			looking(d.lookAtTrust())
	}
	claims := d.live.claims
	token := iam.Token{Issuer: claims.Issuer, Subject: claims.Subject, Audience: strings.Join(claims.Audiences, ",")}
	switch evaluated := iam.EvaluateTrust(document, d.policy.Role, token); evaluated.Outcome {
	case iam.Denied:
		fix, command := d.mendTrust(text, token)
		check := failed("the role's trust policy refuses the token: "+sentences(evaluated.Findings), fix, command)
		if command == "" {
			return check.looking(d.lookAtTrust())
		}
		return check
	case iam.Undecided:
		return warned("the role's trust policy may refuse the token: "+sentences(evaluated.Findings), "see whether its conditions are meant", "").
			looking(d.lookAtTrust())
	default:
	}
	if findings := iam.LintTrust(document, d.policy.Role, d.policy.Audience, claims.Issuer); len(findings) > 0 {
		return warned("it allows the token, but: "+sentences(findings), "access works: see what is meant, and change it by hand", "").looking(d.lookAtTrust())
	}
	return fine("it allows the token")
}

// mendTrust gives the trust policy that was read the statements of this cluster, and
// leaves all others in it. Where that would not let the token in, only a person can
// tell what may go.
func (d *Doctor) mendTrust(existing string, token iam.Token) (fix, command string) {
	look := "see what stands in the way, and change it by hand: other statements may be needed by others"
	fresh, err := d.trustOfRole()
	if err != nil {
		return look, ""
	}
	merged, replaced, err := iam.MergeTrust([]byte(existing), iam.ProviderARN(d.policy.Role, d.awsFacts().Expect.Issuer), fresh)
	if err != nil {
		return look, ""
	}
	document, err := iam.ParseDocument(merged)
	if err != nil || iam.EvaluateTrust(document, d.policy.Role, token).Outcome != iam.Allowed {
		return look, ""
	}
	fix = "add the statement that is generated from the policy; all that are there are kept"
	if len(replaced) > 0 {
		places := make([]string, len(replaced))
		for i, place := range replaced {
			places[i] = fmt.Sprintf("Statement[%d]", place)
		}
		fix = "write what is generated from the policy in place of " + strings.Join(places, ", ") + ", for this cluster's issuer; all other statements are kept"
	}
	return fix, fmt.Sprintf("aws iam update-assume-role-policy --role-name %s --policy-document %s", d.policy.Role.Name(), quote(string(merged)))
}

// trustOfRole is what the role must trust this cluster for: what this policy lists, and
// what others list that have the same role.
func (d *Doctor) trustOfRole() (iam.Document, error) {
	issuer := d.awsFacts().Expect.Issuer
	document, err := d.policy.TrustPolicy(issuer)
	if err != nil {
		return iam.Document{}, err
	}
	for _, other := range d.facts.Policies.OfRole(d.policy.Role) {
		if other.Name == d.policy.Name || (other.Issuer != "" && other.Issuer != issuer) {
			continue
		}
		more, err := other.TrustPolicy(issuer)
		if err != nil {
			return iam.Document{}, err
		}
		document.Statement = append(document.Statement, more.Statement...)
	}
	return document, nil
}

func (d *Doctor) missingRole() result {
	command := ""
	if document, err := d.trustOfRole(); err == nil {
		command = "aws iam create-role --role-name " + d.policy.Role.Name()
		if path := d.policy.Role.Path(); path != "/" { // it is a part of the ARN
			command += " --path " + word(path)
		}
		command += " --assume-role-policy-document " + quote(compact(document))
	}
	return failed("there is no role "+d.policy.Role.String(), "create it, and give it the permission policy", command)
}

// compact is a document on one line.
func compact(document iam.Document) string {
	var b bytes.Buffer
	if err := json.Compact(&b, document.JSON()); err != nil {
		panic("doctor: a document is always JSON: " + err.Error())
	}
	return b.String()
}

// quote makes one word of a shell's.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// plain is text in which no shell sees anything but letters.
var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// word makes one word of a shell's, quoted only where that is needed.
func word(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return quote(text)
}
