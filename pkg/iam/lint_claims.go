package iam

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// claimUse is one place where a statement asks for a claim of a token.
type claimUse struct {
	path, operator string
	parsed         operator
	values         Values
}

// claims judges the condition keys and values of a statement for OIDC providers.
func (l *linter) claims(at string, s Statement, providers Values) {
	hosts := map[string]string{} // in small letters, to how it is written
	for _, provider := range providers {
		if _, host, ok := strings.Cut(provider, ":oidc-provider/"); ok && host != "" && !HasWildcard(host) {
			hosts[strings.ToLower(ProviderHost(host))] = ProviderHost(host)
		}
	}
	uses := map[string][]claimUse{}
	for _, name := range slices.Sorted(maps.Keys(s.Condition)) {
		parsed, _ := parseOperator(name)
		if parsed.base == "Null" {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(s.Condition[name])) {
			path := fmt.Sprintf("%s.Condition.%s[%q]", at, name, key)
			if claim, ok := l.key(path, key, hosts); ok {
				uses[claim] = append(uses[claim], claimUse{path, name, parsed, s.Condition[name][key]})
			}
		}
	}
	if s.Effect != Allow {
		return // what keeps others out is judged by nobody's classic mistakes
	}
	for _, claim := range []string{"aud", "sub"} {
		for _, use := range uses[claim] {
			l.operator(use)
			l.values(claim, use)
		}
	}
	if len(uses["aud"]) == 0 {
		l.report(at+".Condition", MissingAudience, "asks for no audience, so a token that was made for somebody else is taken too: "+
			"add \"StringEquals\": {\"<issuer without https://>:aud\": %q}", l.audience)
	}
	if len(uses["sub"]) == 0 {
		l.report(at+".Condition", MissingSubject, "asks for no subject, so every ServiceAccount of the cluster may assume the role: "+
			"add \"StringEquals\": {\"<issuer without https://>:sub\": \"system:serviceaccount:<namespace>:<name>\"}")
	}
	l.split(at, uses["sub"])
}

// split: operators are ANDed, so exact subjects beside patterns match less than meant.
func (l *linter) split(at string, uses []claimUse) {
	names := map[string]bool{}
	for _, use := range uses {
		if !use.parsed.negated {
			names[use.parsed.base] = true
		}
	}
	if names["StringEquals"] && names["StringLike"] {
		l.report(at+".Condition", SplitSubject,
			"asks for the subject under StringEquals and under StringLike, and both must hold at once: list all subjects under StringLike")
	}
}

// key takes a condition key apart and says which claim of the token it asks for;
// false where it is about something else.
func (l *linter) key(path, key string, hosts map[string]string) (claim string, ok bool) {
	colon := strings.LastIndexByte(key, ':')
	issuer, claim := key[:max(colon, 0)], strings.ToLower(key[colon+1:])
	lower := strings.ToLower(issuer)
	if claim != "aud" && claim != "sub" {
		if _, own := hosts[lower]; own && slices.Contains(noClaims, claim) {
			l.report(path, UnknownClaim,
				"STS sets no %q of a ServiceAccount's token, so the key is never there: Namespace and name are in :sub, the audience is in :aud", claim)
		}
		return "", false
	}
	switch found := placeholder(key); {
	case found != "":
		l.report(path, Placeholder, "%.100q in the key is a placeholder that was never filled in", found)
	case issuer == "":
		l.report(path, WrongKey, "the key lacks the issuer: write \"<issuer without https://>:%s\"", claim)
	case strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://"):
		l.report(path, WrongKey, "the key holds the issuer with https://, and IAM's keys have no scheme: take it away")
	case strings.HasPrefix(lower, "arn:"):
		l.report(path, WrongKey, "the key holds the provider's ARN: write the issuer alone, \"<issuer without https://>:%s\"", claim)
	case strings.HasSuffix(lower, "/") && hosts[lower] == "" && hosts[strings.TrimSuffix(lower, "/")] != "":
		l.report(path, WrongKey, "the key has a slash between the issuer and the colon: take it away")
	case hosts[lower+"/"] != "":
		l.report(path, WrongKey, "the key lacks the slash at the issuer's end, which the provider has: issuers are compared letter by letter")
	case len(hosts) > 0 && hosts[lower] == "": // with none the principal is reported already
		l.report(path, WrongKey, "the key is of another issuer than the statement's Federated principal, so it is never there: write the key of %s",
			strings.Join(slices.Sorted(maps.Values(hosts)), " or "))
	}
	// A wrong key shows that the claim was meant, so the policy is not told as well
	// that it asks for none.
	return claim, true
}

// noClaims are what people take for claims; AWS documents amr, aud, email, oaud and sub.
var noClaims = []string{"audience", "iss", "issuer", "namespace", "serviceaccount", "service_account", "serviceaccountname", "subject", "user"}

func (l *linter) operator(use claimUse) {
	switch {
	case use.parsed.set == "ForAllValues":
		l.report(use.path, VacuousOperator, "ForAllValues holds for a token without the claim too: write %s", use.parsed.base)
	case use.parsed.negated:
		l.report(use.path, VacuousOperator,
			"%s lets everybody through but those it names, of every Namespace: name who may, by StringEquals or StringLike", use.operator)
	case len(use.values) == 0:
		l.report(use.path, ClaimMismatch, "lists no value, so nothing matches: write at least one")
	}
}

// Names of Kubernetes with IAM's wildcards.
var (
	subjectPattern = regexp.MustCompile(`^system:serviceaccount:[a-z0-9*?]([a-z0-9*?-]*[a-z0-9*?])?:[a-z0-9*?]([a-z0-9*?.-]*[a-z0-9*?])?$`)
)

// matchesAnybody says whether a pattern takes ServiceAccounts that have nothing in common.
func matchesAnybody(pattern string) bool {
	return Like(pattern, subjectPrefix+"a-team:web.1") && Like(pattern, subjectPrefix+"zulu9:x")
}

func (l *linter) values(claim string, use claimUse) {
	if claim == "aud" && slices.Contains(use.values, l.audience) {
		return // others beside it are other clients'
	}
	for i, value := range use.values {
		at := use.path
		if len(use.values) > 1 {
			at = fmt.Sprintf("%s[%d]", at, i)
		}
		found := placeholder(value)
		literal := strings.HasPrefix(use.parsed.base, "StringEquals") && HasWildcard(value)
		switch {
		case found != "":
			l.report(at, Placeholder, "%.100q in the value is a placeholder that was never filled in", found)
		case strings.Contains(value, "${") && l.version != PolicyVersion:
			l.report(at, LiteralVariable, "%.100q is a policy variable, which only the version %s knows: write that Version", value, PolicyVersion)
		case strings.Contains(value, "${"):
		case strings.TrimSpace(value) != value:
			l.report(at, ClaimMismatch, "%.100q begins or ends with white space, which counts: take it away", value)
		case claim == "aud" && strings.HasPrefix(value, subjectPrefix), claim == "sub" && value == l.audience:
			l.report(at, SwappedClaims, "%.200q is what the other claim says: aud and sub are swapped", value)
		case literal:
			l.report(at, LiteralWildcard, "%.200q has a wildcard, which StringEquals takes literally: use StringLike, for all subjects of the statement", value)
		case claim == "aud":
			l.audienceValue(at, value, use.parsed)
		default:
			l.subjectValue(at, value)
		}
	}
}

func (l *linter) audienceValue(at, value string, o operator) {
	switch {
	case o.base == "StringLike" && Like(value, "somebody-elses-audience"):
		l.report(at, MissingAudience, "%.100q takes every audience, so a token that was made for anybody is taken: write %q", value, l.audience)
	case o.base == "StringLike" && Like(value, l.audience), o.base == "StringEqualsIgnoreCase" && strings.EqualFold(value, l.audience):
	case ProviderHost(strings.TrimSuffix(value, "/")) == l.audience:
		l.report(at, WrongAudience, "%.100q has a scheme or a slash too many: the audience is %q", value, l.audience)
	case strings.HasPrefix(value, "https://"):
		l.report(at, WrongAudience, "%.200q is a URL (the API server's own audience is one), tokens for AWS are requested for %q", value, l.audience)
	default:
		l.report(at, WrongAudience, "is %.100q, tokens are requested for %q, letter by letter", value, l.audience)
	}
}

func (l *linter) subjectValue(at, value string) {
	parts := strings.Split(strings.TrimPrefix(value, subjectPrefix), ":")
	switch {
	case matchesAnybody(value):
		l.report(at, BroadSubject, "%.100q is every ServiceAccount of the cluster: name the Namespace and the ServiceAccount", value)
	case subjectPattern.MatchString(value):
	case value != strings.ToLower(value):
		l.report(at, WrongSubject, "%.200q has capital letters, and names in Kubernetes have none", value)
	case strings.Contains(value, "/"):
		l.report(at, WrongSubject, "%.200q has a slash: Namespace and name are separated by a colon", value)
	case strings.HasPrefix(value, "system:serviceaccounts:") || strings.HasPrefix(value, "system:service-account:"):
		l.report(at, WrongSubject, "%.200q begins wrongly: a ServiceAccount's subject begins with %q", value, subjectPrefix)
	case !strings.HasPrefix(value, subjectPrefix) && !HasWildcard(value):
		l.report(at, WrongSubject, "%.200q is no ServiceAccount's subject: write system:serviceaccount:<namespace>:<name>", value)
	case strings.HasPrefix(value, subjectPrefix) && len(parts) == 1:
		l.report(at, WrongSubject, "%.200q lacks a part: it has a Namespace or a name, and needs both", value)
	case strings.HasPrefix(value, subjectPrefix) && len(parts) > 2:
		l.report(at, WrongSubject, "%.200q has too many parts: system:serviceaccount:<namespace>:<name> is all", value)
	case strings.HasPrefix(value, subjectPrefix):
		l.report(at, WrongSubject, "%.200q is no name in Kubernetes: lower-case letters, digits and hyphens", value)
	}
}
