package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// warnShared says what it means that other policies have the same role.
func (a *account) warnShared(e *environment) {
	if len(a.sharing) == 0 {
		return
	}
	names := make([]string, len(a.sharing))
	for i, other := range a.sharing {
		names[i] = other.Name
	}
	fmt.Fprintf(e.ErrOut, "%srole %s is also that of policy %s: ServiceAccounts of either reach what both grant, "+
		"and a trust policy made from %q alone keeps the others' out; give each policy a role of its own\n",
		e.terminal(e.ErrOut).mark(warn), a.Role, iam.Quoted(names, ", "), a.Name)
}

// strangers are subjects that the document names and lets in, and the policy does not list.
// Those that another policy with the same role lists are its own, of whom warnShared tells.
func (a *account) strangers(document iam.Document, issuer string) []finding {
	var found []finding
	key := iam.ProviderHost(issuer) + ":sub"
	for i, statement := range document.Statement {
		if statement.Effect != iam.Allow {
			continue
		}
		for _, operator := range slices.Sorted(maps.Keys(statement.Condition)) {
			patterns, negated := iam.ListsPatterns(operator)
			for _, name := range slices.Sorted(maps.Keys(statement.Condition[operator])) {
				if negated || !strings.EqualFold(name, key) {
					continue
				}
				for _, value := range statement.Condition[operator][name] {
					if severity, message := a.stranger(document, issuer, value, patterns); message != "" {
						found = append(found, finding{
							Path: fmt.Sprintf("Statement[%d].Condition.%s[%q]", i, operator, name), Severity: severity, Rule: ruleNotListed, Message: message,
						})
					}
				}
			}
		}
	}
	return found
}

// fillings stand for a pattern's '*' and '?': first what no subject will be named like, then
// what is short, and what spans Namespace and name.
var fillings = []*strings.Replacer{
	strings.NewReplacer("*", "zq7xk-0w", "?", "q"), strings.NewReplacer("*", "a-b", "?", "x"), strings.NewReplacer("*", "", "?", "7"),
	strings.NewReplacer("*", "7", "?", "a"), strings.NewReplacer("*", "zq7xk:0w", "?", "q"), strings.NewReplacer("*", "system:serviceaccount:zq7xk:0w", "?", "q"),
}

// stranger says what is wrong with one value of a sub claim; an empty message is nothing.
// Of a pattern either all that it matches is proven to be listed, or one ServiceAccount is
// found that is not, or it is not decided.
func (a *account) stranger(document iam.Document, issuer, value string, patterns bool) (severity, message string) {
	claims := []string{value}
	switch {
	case !iam.HasWildcard(value):
	case !patterns:
		return "", "" // taken literally, and no ServiceAccount is named so
	case a.lists(value):
		return "", ""
	default:
		claims = nil
		for _, filling := range fillings {
			claims = append(claims, filling.Replace(value))
		}
	}
	undecided := len(claims) > 1
	for _, claim := range claims {
		subject, is := serviceAccountOf(claim)
		if !is || a.allows(subject) {
			continue
		}
		switch iam.EvaluateTrust(document, a.Role, iam.Token{Issuer: issuer, Subject: claim, Audience: a.Audience}).Outcome {
		case iam.Allowed:
			like := ""
			if claim != value {
				like = fmt.Sprintf(" (it lets in %q)", claim)
			}
			return severityError, fmt.Sprintf("%q is let in, and policy %q does not list it%s: take it away, or add it to the policy's subjects", value, a.Name, like)
		case iam.Undecided:
			undecided = true
		case iam.Denied:
		}
	}
	if undecided {
		return severityWarning, fmt.Sprintf("whether %q lets in anybody whom policy %q does not list could not be decided: see that nobody is", value, a.Name)
	}
	return "", ""
}

// of are this policy and those that have its role.
func (a *account) of() []*policy.Policy { return append([]*policy.Policy{a.Policy}, a.sharing...) }

// lists says whether some subject is proven to list all that a pattern of claims matches.
func (a *account) lists(pattern string) bool {
	return slices.ContainsFunc(a.of(), func(p *policy.Policy) bool {
		return slices.ContainsFunc(p.Subjects.All(), func(s v1alpha1.Subject) bool { return iam.Covers(iam.SubjectClaim(s), pattern) })
	})
}

func (a *account) allows(s v1alpha1.Subject) bool {
	return slices.ContainsFunc(a.of(), func(p *policy.Policy) bool { return p.Subjects.Allow(s.Namespace, s.ServiceAccount) })
}

// serviceAccountOf reads a sub claim; false where no token has it.
func serviceAccountOf(claim string) (v1alpha1.Subject, bool) {
	rest, ok := strings.CutPrefix(claim, "system:serviceaccount:")
	namespace, name, both := strings.Cut(rest, ":")
	return v1alpha1.Subject{Namespace: namespace, ServiceAccount: name}, ok && both && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// unjudged are the statements that let in somebody of whom nothing was tried: the check is
// of tokens of the clusters that it was given, and says nothing of anybody else. What the
// linter minds is said already.
func (a *account) unjudged(document iam.Document, lint []iam.Finding) []iam.Finding {
	providers := map[string]bool{}
	for _, issuer := range a.issuers {
		providers[iam.ProviderARN(a.Role, issuer)] = true
	}
	var found []iam.Finding
	for i, statement := range document.Statement {
		at := fmt.Sprintf("Statement[%d]", i)
		judged := len(statement.Principal) == 1 && len(statement.Principal["Federated"]) > 0
		for _, provider := range statement.Principal["Federated"] {
			judged = judged && providers[provider]
		}
		if judged || statement.Effect != iam.Allow || slices.ContainsFunc(lint, func(f iam.Finding) bool { return strings.HasPrefix(f.Path, at) }) {
			continue
		}
		var whom []string
		for _, kind := range slices.Sorted(maps.Keys(statement.Principal)) {
			whom = append(whom, kind+" "+iam.Quoted(statement.Principal[kind], ", "))
		}
		by := "by " + iam.Quoted(statement.Action, ", ")
		if len(statement.NotAction) > 0 {
			by = "by all but " + iam.Quoted(statement.NotAction, ", ")
		}
		found = append(found, iam.Finding{Path: at, Rule: ruleNotJudged, Message: fmt.Sprintf(
			"lets in %s %s, of whom nothing is judged here: see that it is meant, and give --issuer for each other cluster", strings.Join(whom, " and "), by)})
	}
	return found
}
