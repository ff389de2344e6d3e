package cli

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// What AWS's API takes, under the API's own names.
type (
	providerInput struct {
		URL          string   `json:"Url"`
		ClientIDList []string `json:"ClientIDList"`
	}
	roleInput struct {
		RoleName                 string       `json:"RoleName"`
		Path                     string       `json:"Path"`
		Description              string       `json:"Description"`
		AssumeRolePolicyDocument iam.Document `json:"AssumeRolePolicyDocument"`
	}
	rolePolicyInput struct {
		RoleName       string       `json:"RoleName"`
		PolicyName     string       `json:"PolicyName"`
		PolicyDocument iam.Document `json:"PolicyDocument"`
	}
	bucketPolicyInput struct {
		Bucket string       `json:"Bucket"`
		Policy iam.Document `json:"Policy"`
	}
)

// accountInput is all that Account B is asked for.
type accountInput struct {
	TrustPolicy  *iam.Document      `json:"TrustPolicy,omitempty"`
	Providers    []providerInput    `json:"OpenIDConnectProviders,omitempty"`
	Role         *roleInput         `json:"Role,omitempty"`
	RolePolicy   *rolePolicyInput   `json:"RolePolicy,omitempty"`
	BucketPolicy *bucketPolicyInput `json:"BucketPolicy,omitempty"`
	KeyStatement *iam.Statement     `json:"KeyPolicyStatement,omitempty"`
}

func (a *account) input() accountInput {
	var in accountInput
	if a.has(partProvider) {
		for _, issuer := range a.issuers {
			in.Providers = append(in.Providers, providerInput{issuer, []string{a.Audience}})
		}
	}
	if a.has(partRole) {
		in.Role = &roleInput{a.Role.Name(), a.Role.Path(), a.description(), a.trust}
	} else {
		in.TrustPolicy = &a.trust
	}
	if a.has(partPermissions) {
		in.RolePolicy = &rolePolicyInput{a.Role.Name(), a.RolePolicyName(), iam.PermissionPolicy(a.Grant())}
	}
	if a.has(partBucket) {
		in.BucketPolicy = &bucketPolicyInput{a.Bucket, iam.BucketPolicy(a.Grant())}
		if a.KMSKeyARN != "" {
			statement := iam.KMSKeyStatement(a.Grant())
			in.KeyStatement = &statement
		}
	}
	return in
}

func (a *account) description() string {
	return "Pods of clusters in other accounts use the bucket " + a.Bucket + "."
}

// writeJSON writes the trust policy alone, or all parts under AWS's own names.
func (a *account) writeJSON(e *environment) error {
	if len(a.with) == 0 {
		_, err := e.Out.Write(a.trust.JSON())
		return err
	}
	return e.encode(a.input())
}

// awsCLI is a script for the AWS CLI that may be run again. It is handed to a shell of its
// own: the first error ends the script and not the shell that it is pasted into, which may
// also be one that takes no comments, as zsh does not when it is typed to.
func (a *account) awsCLI() []byte {
	var b bytes.Buffer
	in := a.input()
	fmt.Fprintf(&b, "sh <<'END'\n# What account %s needs for policy %q: run it with credentials of that account. It may be run again.\n"+
		"set -eu\nexport AWS_PAGER=\n", a.Role.Account(), a.Name)
	for i, provider := range in.Providers {
		if i == 0 {
			b.WriteString("\n# An account has one provider for an issuer, whatever the number of roles; here it only has to know the audience.\n" +
				"# AWS CLIs from before April 2024 also ask for --thumbprint-list: where AWS trusts the issuer's CA itself, as EKS's, any 40 hex digits do.\n")
		}
		arn := iam.ProviderARN(a.Role, provider.URL)
		b.WriteString("if " + quietly("aws iam get-open-id-connect-provider --open-id-connect-provider-arn", arn) + "; then\n")
		command(&b, "aws iam add-client-id-to-open-id-connect-provider", "--open-id-connect-provider-arn", arn, "--client-id", a.Audience)
		b.WriteString("else\n")
		command(&b, "aws iam create-open-id-connect-provider", "--url", provider.URL, "--client-id-list", a.Audience)
		b.WriteString("fi\n")
	}
	a.awsRole(&b, in)
	if own := in.RolePolicy; own != nil {
		b.WriteString("\n")
		command(&b, "aws iam put-role-policy", "--role-name", own.RoleName, "--policy-name", own.PolicyName, "--policy-document", text(own.PolicyDocument))
	}
	if in.BucketPolicy != nil {
		b.WriteString("\n# Needed only where the bucket is in another account than the role. This replaces the bucket's whole policy.\n")
		command(&b, "aws s3api put-bucket-policy", "--region", a.Region, "--bucket", a.Bucket, "--policy", text(in.BucketPolicy.Policy))
	}
	if in.KeyStatement != nil {
		fmt.Fprintf(&b, "\n# Add this statement to the policy of the key %s:\n", a.KMSKeyARN)
		document := iam.Document{Version: iam.PolicyVersion, Statement: iam.Statements{*in.KeyStatement}}
		for line := range strings.Lines(text(document)) {
			b.WriteString("#   " + line)
		}
		b.WriteString("\n")
	}
	b.WriteString("END\n")
	return b.Bytes()
}

// awsRole makes the role, or gives the one that is there its trust policy.
func (a *account) awsRole(b *bytes.Buffer, in accountInput) {
	name := a.Role.Name()
	b.WriteString("\n# Of a role that is there this replaces the whole trust policy. Its other statements may be others' access; see them first:\n" +
		"#   kubectl bucket-access trust-policy " + a.Name + " … --live\n")
	if in.Role == nil {
		command(b, "aws iam update-assume-role-policy", "--role-name", name, "--policy-document", text(a.trust))
		return
	}
	b.WriteString("if " + quietly("aws iam get-role --role-name", name) + "; then\n")
	command(b, "aws iam update-assume-role-policy", "--role-name", name, "--policy-document", text(a.trust))
	b.WriteString("else\n")
	command(b, "aws iam create-role", "--role-name", name, "--path", in.Role.Path, "--description", in.Role.Description,
		"--assume-role-policy-document", text(a.trust))
	b.WriteString("fi\n")
}

// quietly is a command that only answers whether something is there.
func quietly(name, argument string) string {
	return name + " " + shellWord(argument) + " >/dev/null 2>&1"
}

// shellWord is text that a shell takes literally.
func shellWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func text(document iam.Document) string { return strings.TrimSuffix(string(document.JSON()), "\n") }

// command writes a command whose values a shell takes literally.
func command(b *bytes.Buffer, name string, flags ...string) {
	b.WriteString(name)
	for i := 0; i+1 < len(flags); i += 2 {
		fmt.Fprintf(b, " \\\n  %s %s", flags[i], shellWord(flags[i+1]))
	}
	b.WriteString("\n")
}
