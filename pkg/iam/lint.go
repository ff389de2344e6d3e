package iam

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rule is the short form of a finding: a closed set.
type Rule string

// The rules of evaluation.
const (
	ExplicitDeny      Rule = "ExplicitDeny"
	NothingAllowed    Rule = "NothingAllowed"
	PrincipalMismatch Rule = "PrincipalMismatch"
	ActionMismatch    Rule = "ActionMismatch"
	ClaimMismatch     Rule = "ClaimMismatch"
	KeyNeverPresent   Rule = "KeyNeverPresent"
	DependsOnRequest  Rule = "DependsOnRequest"
	NotElement        Rule = "NotElement"
)

// The rules of the linter, which judge a policy by itself.
const (
	WrongVersion     Rule = "WrongVersion"
	WrongEffect      Rule = "WrongEffect"
	TooLarge         Rule = "TooLarge"
	ForeignElement   Rule = "ForeignElement"
	WrongAction      Rule = "WrongAction"
	BroadAction      Rule = "BroadAction"
	WrongPrincipal   Rule = "WrongPrincipal"
	DeletedPrincipal Rule = "DeletedPrincipal"
	WrongProvider    Rule = "WrongProvider"
	OtherAccount     Rule = "OtherAccount"
	OtherPartition   Rule = "OtherPartition"
	Placeholder      Rule = "Placeholder"
	UnknownOperator  Rule = "UnknownOperator"
	WrongKey         Rule = "WrongKey"
	SwappedClaims    Rule = "SwappedClaims"
	WrongAudience    Rule = "WrongAudience"
	WrongSubject     Rule = "WrongSubject"
	MissingAudience  Rule = "MissingAudience"
	MissingSubject   Rule = "MissingSubject"
	BroadSubject     Rule = "BroadSubject"
	SplitSubject     Rule = "SplitSubject"
	UnknownClaim     Rule = "UnknownClaim"
	LiteralVariable  Rule = "LiteralVariable"
	LiteralWildcard  Rule = "LiteralWildcard"
	VacuousOperator  Rule = "VacuousOperator"
)

// linter collects what is wrong with one trust policy.
type linter struct {
	role     RoleARN
	audience string
	hosts    map[string]bool // of the clusters' issuers, in small letters; empty when unknown
	version  string
	findings []Finding
}

func (l *linter) report(path string, rule Rule, format string, args ...any) {
	l.findings = append(l.findings, Finding{path, rule, fmt.Sprintf(format, args...)})
}

// LintTrust names the classic mistakes in a role's trust policy: what IAM would refuse,
// what can match no token, and what matches more than anybody means. audience is the
// one that tokens are requested for, issuers are the clusters'. Statements for other
// issuers than those, for AWS principals, services, SAML and the identity providers of
// the web are let be; without issuers every OIDC provider is taken for a cluster's.
func LintTrust(document Document, role RoleARN, audience string, issuers ...string) []Finding {
	l := &linter{role: role, audience: audience, hosts: map[string]bool{}, version: document.Version}
	for _, issuer := range issuers {
		l.hosts[strings.ToLower(ProviderHost(issuer))] = true
	}
	switch document.Version {
	case PolicyVersion, "2008-10-17", "":
	default:
		l.report("Version", WrongVersion, "%.40q is no version of IAM's policy language: write %s", document.Version, PolicyVersion)
	}
	if size := document.Size(); size > TrustPolicyQuota {
		l.report("", TooLarge, "the policy has %d characters without white space, IAM's default quota for a trust policy is %d: "+
			"let a pattern stand for several subjects, use a second role, or ask AWS to raise the quota", size, TrustPolicyQuota)
	}
	for i, statement := range document.Statement {
		if !l.elsewhere(statement) {
			l.statement(fmt.Sprintf("Statement[%d]", i), statement)
		}
	}
	return l.findings
}

// wellKnown are federated principals that are no OIDC provider of the account.
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html.
var wellKnown = []string{"cognito-identity.amazonaws.com", "accounts.google.com", "www.amazon.com", "graph.facebook.com"}

// elsewhere says whether a statement is for identities of another kind, or of well-formed
// providers that nobody asks about.
func (l *linter) elsewhere(s Statement) bool {
	providers := s.Principal["Federated"]
	if len(providers) == 0 {
		return false
	}
	saml := slices.ContainsFunc(s.Action, func(a string) bool { return strings.EqualFold(a, "sts:AssumeRoleWithSAML") })
	return !slices.ContainsFunc(providers, func(provider string) bool {
		_, host, oidc := strings.Cut(provider, ":oidc-provider/")
		switch {
		case slices.Contains(wellKnown, provider):
			return false
		case strings.Contains(provider, ":saml-provider/"):
			return !saml
		case !oidc || len(l.hosts) == 0:
			return true
		}
		return l.hosts[strings.ToLower(strings.TrimSuffix(ProviderHost(host), "/"))] || l.hosts[strings.ToLower(ProviderHost(host))] ||
			strings.Contains(host, "://") || placeholder(provider) != "" || HasWildcard(provider) || host == ""
	})
}

func (l *linter) statement(at string, s Statement) {
	if s.Effect != Allow && s.Effect != Deny {
		l.report(at+".Effect", WrongEffect, "is %.40q: write Allow or Deny, with a capital letter", s.Effect)
	}
	l.elements(at, s)
	web := l.action(at, s)
	l.principal(at, s, web)
	for _, name := range slices.Sorted(maps.Keys(s.Condition)) {
		if _, known := parseOperator(name); !known {
			l.report(at+".Condition."+name, UnknownOperator,
				"IAM has no such condition operator: StringEquals and StringLike are usual, and upper and lower case count")
		}
	}
	if providers := s.Principal["Federated"]; web && len(providers) > 0 {
		l.claims(at, s, providers)
	}
}

// elements looks for what a trust policy can't have.
func (l *linter) elements(at string, s Statement) {
	if len(s.Resource) > 0 || len(s.NotResource) > 0 {
		l.report(at+".Resource", ForeignElement, "a trust policy has no Resource, the role itself is it: take it away")
	}
	if s.NotPrincipal != nil {
		l.report(at+".NotPrincipal", ForeignElement, "a trust policy takes no NotPrincipal: name the OIDC provider as the Principal")
	}
	if len(s.NotAction) > 0 {
		l.report(at+".NotAction", ForeignElement, "names what is not meant: write Action %s", AssumeRoleWithWebIdentity)
	}
}

// action says whether the statement is about web identity at all.
func (l *linter) action(at string, s Statement) (web bool) {
	federated := len(s.Principal["Federated"]) > 0 || s.Principal[Anyone] != nil
	if len(s.Action) == 0 && len(s.NotAction) == 0 {
		l.report(at+".Action", WrongAction, "is missing: write %s", AssumeRoleWithWebIdentity)
		return federated
	}
	for _, action := range s.Action {
		switch {
		case strings.EqualFold(action, AssumeRoleWithWebIdentity):
			web = true
		case HasWildcard(action) && Like(strings.ToLower(action), strings.ToLower(AssumeRoleWithWebIdentity)):
			web = true
			if s.Effect == Allow {
				l.report(at+".Action", BroadAction, "%.80q allows more than a token needs: write %s", action, AssumeRoleWithWebIdentity)
			}
		case federated && strings.EqualFold(action, "sts:AssumeRole"):
			l.report(at+".Action", WrongAction, "sts:AssumeRole is for principals with AWS credentials, a token needs %s", AssumeRoleWithWebIdentity)
		case federated && strings.EqualFold(action, "sts:AssumeRoleWithSAML"):
			l.report(at+".Action", WrongAction, "sts:AssumeRoleWithSAML is for SAML assertions, a ServiceAccount's token needs %s", AssumeRoleWithWebIdentity)
		case !strings.HasPrefix(strings.ToLower(action), "sts:"):
			l.report(at+".Action", WrongAction, "%.80q is no action of STS, and a trust policy takes no other: write %s", action, AssumeRoleWithWebIdentity)
		}
	}
	return web
}
