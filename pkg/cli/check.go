package cli

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// Rules of what is compared with the policy, besides those of pkg/iam.
const (
	ruleSyntax    = "Syntax"
	ruleNotListed = "NotListed"
	ruleNotJudged = "NotJudged"
)

// judge says how a trust policy differs from what the policy needs.
func (e *environment) judge(a *account, where string, text []byte, output string) error {
	findings := a.differences(text)
	for i := range findings {
		findings[i].File = where
	}
	if err := e.list(findings, output); err != nil {
		return err
	}
	if has(findings, severityError) {
		return errFindings
	}
	if output == outputTable {
		besides := ""
		if has(findings, severityWarning) {
			besides = "; the warnings name what is not judged"
		}
		fmt.Fprintf(e.ErrOut, "%sthe trust policy lets in %s of policy %q from %s, and nobody else that was tried%s\n",
			e.terminal(e.ErrOut).mark(good), count(len(a.Subjects.All()), "subject", "subjects"), a.Name, count(len(a.issuers), "cluster", "clusters"), besides)
	}
	return nil
}

// differences are all that is wrong with a trust policy: its own mistakes, subjects that
// it keeps out, and others that it lets in.
func (a *account) differences(text []byte) []finding {
	document, err := iam.ParseDocument(text)
	if err != nil {
		return []finding{{Severity: severityError, Rule: ruleSyntax, Message: err.Error()}}
	}
	var all []finding
	add := func(severity string, f iam.Finding, so string) {
		found := finding{Path: f.Path, Severity: severity, Rule: string(f.Rule), Message: f.Message + so}
		if !slices.Contains(all, found) {
			all = append(all, found)
		}
	}
	lint := iam.LintTrust(document, a.Role, a.Audience, a.issuers...)
	for _, f := range lint {
		add(severityError, f, "")
	}
	for _, issuer := range a.issuers {
		for _, subject := range a.Subjects.All() {
			evaluation := iam.EvaluateTrust(document, a.Role, iam.Token{Issuer: issuer, Subject: sample(iam.SubjectClaim(subject)), Audience: a.Audience})
			severity, outcome := severityError, "is refused"
			if evaluation.Outcome == iam.Undecided {
				severity, outcome = severityWarning, "may be refused"
			}
			for _, f := range evaluation.Findings {
				add(severity, f, fmt.Sprintf(" (so %s from %s %s)", iam.SubjectClaim(subject), issuer, outcome))
			}
		}
		for _, f := range a.strangers(document, issuer) {
			add(f.Severity, iam.Finding{Path: f.Path, Rule: iam.Rule(f.Rule), Message: f.Message}, "")
		}
	}
	for _, f := range a.unjudged(document, lint) {
		add(severityWarning, f, "")
	}
	return all
}

// sample is a claim that a pattern matches.
func sample(pattern string) string { return strings.NewReplacer("*", "a-b", "?", "x").Replace(pattern) }

// regions are where the IAM of a partition answers.
var regions = map[string]string{"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1", "aws-eusc": "eusc-de-east-1"}

// live reads the trust policy of the role as it is.
func (a *account) live(ctx context.Context) (text []byte, where string, err error) {
	var options []func(*awsconfig.LoadOptions) error
	if region := regions[a.Role.Partition()]; region != "" {
		options = append(options, awsconfig.WithDefaultRegion(region))
	}
	config, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, "", fmt.Errorf("setting up the AWS SDK: %w", err)
	}
	name := a.Role.Name()
	role, err := awsiam.NewFromConfig(config).GetRole(ctx, &awsiam.GetRoleInput{RoleName: &name})
	if err != nil {
		return nil, "", fmt.Errorf("reading role %s (this needs iam:GetRole in account %s): %w", a.Role, a.Role.Account(), err)
	}
	if role.Role == nil || role.Role.AssumeRolePolicyDocument == nil {
		return nil, "", fmt.Errorf("reading role %s: the answer holds no trust policy", a.Role)
	}
	// A name says nothing of the account: the credentials may be another one's.
	if found := role.Role.Arn; found != nil && *found != a.Role.String() {
		return nil, "", fmt.Errorf("the credentials at hand find %s, and the policy's role is %s: use credentials of account %s, or correct the policy",
			*found, a.Role, a.Role.Account())
	}
	document, err := url.QueryUnescape(*role.Role.AssumeRolePolicyDocument)
	if err != nil {
		return nil, "", fmt.Errorf("reading role %s: its trust policy: %w", a.Role, err)
	}
	return []byte(document), a.Role.String(), nil
}
