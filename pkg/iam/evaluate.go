package iam

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Token is what a trust policy is judged for: the claims of a web identity token.
type Token struct {
	Issuer   string // https URL
	Subject  string // system:serviceaccount:NAMESPACE:NAME
	Audience string
}

// Outcome of an evaluation.
type Outcome string

// The outcomes. Undecided: it depends on something that a token does not tell, such
// as the address that the request comes from.
const (
	Allowed   Outcome = "Allowed"
	Denied    Outcome = "Denied"
	Undecided Outcome = "Undecided"
)

// Finding is one thing to know about a policy: where, which rule, and a sentence that
// says what was found and what to do.
type Finding struct {
	Path    string // like Statement[0].Condition.StringEquals["…:sub"]
	Rule    Rule
	Message string
}

func (f Finding) String() string {
	if f.Path == "" {
		return f.Message
	}
	return f.Path + ": " + f.Message
}

// Evaluation says whether STS would let a token assume a role, by the role's trust
// policy alone. Findings are empty for Allowed.
type Evaluation struct {
	Outcome  Outcome
	Findings []Finding
}

// EvaluateTrust judges a trust policy as IAM does: an explicit Deny wins, one Allow is
// enough, and nothing is denied. The findings say which element of which statement
// stands in the way. That the OIDC provider exists is not judged.
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html.
func EvaluateTrust(document Document, role RoleARN, token Token) Evaluation {
	context := newContext(role, token, document.Version)
	allowed, denied := no, no
	var whyNot, unsure []Finding
	for i, statement := range document.Statement {
		at := fmt.Sprintf("Statement[%d]", i)
		met, findings := context.statement(at, statement, ProviderARN(role, token.Issuer))
		if met == unknown {
			unsure = append(unsure, findings...)
		}
		switch statement.Effect {
		case Deny:
			if met == yes {
				return Evaluation{Denied, []Finding{{at, ExplicitDeny,
					"denies this token explicitly, and no Allow can undo that: take the statement away, or narrow it"}}}
			}
			denied = max(denied, met)
		case Allow:
			allowed = allowed.or(met)
			if met == no {
				whyNot = append(whyNot, findings...)
			}
		default:
			whyNot = append(whyNot, Finding{at + ".Effect", WrongEffect, fmt.Sprintf("is %.40q, neither Allow nor Deny", statement.Effect)})
		}
	}
	switch {
	case allowed == no && len(whyNot) == 0:
		return Evaluation{Denied, []Finding{{"Statement", NothingAllowed, "no statement allows anything: add one with the effect Allow"}}}
	case allowed == no:
		return Evaluation{Denied, whyNot}
	case allowed == unknown || denied == unknown:
		return Evaluation{Undecided, unsure}
	}
	return Evaluation{Outcome: Allowed}
}

// statement says whether a statement is about the token; the findings say why not.
func (c tokenContext) statement(at string, s Statement, provider string) (truth, []Finding) {
	principal, why := matchPrincipal(at, s, provider)
	action, whyAction := matchAction(at, s)
	condition, whyCondition := c.condition(at, s.Condition)
	return principal.and(action).and(condition), slices.Concat(why, whyAction, whyCondition)
}

func matchPrincipal(at string, s Statement, provider string) (truth, []Finding) {
	if s.NotPrincipal != nil {
		return unknown, []Finding{{at + ".NotPrincipal", NotElement, "is not judged: IAM takes no NotPrincipal in a trust policy"}}
	}
	if _, anyone := s.Principal[Anyone]; anyone {
		return yes, nil
	}
	if slices.Contains(s.Principal["AWS"], Anyone) {
		return unknown, []Finding{{at + ".Principal.AWS", PrincipalMismatch,
			"is \"*\", of which AWS does not say whether it is also everybody who comes with a token: write the bare \"*\", or whom it means"}}
	}
	for _, value := range s.Principal["Federated"] {
		if value == provider {
			return yes, nil
		}
	}
	var found []string
	for _, kind := range slices.Sorted(maps.Keys(s.Principal)) {
		found = append(found, kind+" "+quoted(s.Principal[kind]))
	}
	if len(found) == 0 {
		found = []string{"nobody"}
	}
	return no, []Finding{{at + ".Principal", PrincipalMismatch, fmt.Sprintf(
		"trusts %s, the token comes from the Federated %q", strings.Join(found, ", "), provider)}}
}

func matchAction(at string, s Statement) (truth, []Finding) {
	matches := func(patterns Values) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			return Like(strings.ToLower(pattern), strings.ToLower(AssumeRoleWithWebIdentity))
		})
	}
	if len(s.NotAction) > 0 {
		if matches(s.NotAction) {
			return no, []Finding{{at + ".NotAction", ActionMismatch, "excludes " + AssumeRoleWithWebIdentity}}
		}
		return yes, nil
	}
	if matches(s.Action) {
		return yes, nil
	}
	return no, []Finding{{at + ".Action", ActionMismatch, fmt.Sprintf("is %s, a token needs %s", quoted(s.Action), AssumeRoleWithWebIdentity)}}
}
