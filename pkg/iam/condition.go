package iam

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// truth is yes, no, or not to be told from a token alone.
type truth int

const (
	no truth = iota
	yes
	unknown
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// and is no where one side is no, unknown where one is unknown.
func (t truth) and(other truth) truth {
	switch {
	case t == no || other == no:
		return no
	case t == unknown || other == unknown:
		return unknown
	}
	return yes
}

// or is yes where one side is yes, unknown where one is unknown.
func (t truth) or(other truth) truth {
	switch {
	case t == yes || other == yes:
		return yes
	case t == unknown || other == unknown:
		return unknown
	}
	return no
}

// operator is a condition operator taken apart: ForAnyValue:StringNotLikeIfExists.
type operator struct {
	base     string
	negated  bool
	ifExists bool
	set      string // ForAnyValue, ForAllValues or empty
}

// stringOperators are those whose base is compared here; true for patterns.
var stringOperators = map[string]bool{
	"StringEquals": false, "StringEqualsIgnoreCase": false, "StringLike": true,
	"ArnEquals": true, "ArnLike": true,
}

// otherOperators are IAM's operators that a token can't answer.
var otherOperators = []string{
	"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals",
	"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals",
	"BinaryEquals", "IpAddress", "NotIpAddress", "Bool",
}

// parseOperator takes an operator apart; false where IAM has none of that name.
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html.
func parseOperator(name string) (operator, bool) {
	var o operator
	for _, set := range []string{"ForAnyValue", "ForAllValues"} {
		if rest, ok := strings.CutPrefix(name, set+":"); ok {
			o.set, name = set, rest
		}
	}
	name, o.ifExists = strings.CutSuffix(name, "IfExists")
	o.base = name
	if name == "Null" {
		return o, !o.ifExists
	}
	for _, kind := range []string{"String", "Arn"} {
		if rest, ok := strings.CutPrefix(name, kind+"Not"); ok {
			o.base, o.negated = kind+rest, true
		}
	}
	_, known := stringOperators[o.base]
	return o, known || slices.Contains(otherOperators, name)
}

// ListsPatterns says whether the values under a condition operator name, by patterns or
// letter by letter, who is meant; negated operators name who is not.
func ListsPatterns(name string) (patterns, negated bool) {
	o, _ := parseOperator(name)
	return stringOperators[o.base], o.negated
}

// tokenContext is what STS fills the condition keys with: lower-case key to value.
type tokenContext struct {
	values map[string]string
	// variables says whether the policy's version knows policy variables; in an older one
	// they are literal.
	variables bool
}

func newContext(role RoleARN, t Token, version string) tokenContext {
	host := strings.ToLower(ProviderHost(t.Issuer))
	return tokenContext{map[string]string{
		host + ":aud": t.Audience, host + ":sub": t.Subject, "aws:federatedprovider": ProviderARN(role, t.Issuer),
	}, version == PolicyVersion}
}

// lookup returns the value of a condition key: IAM compares key names without regard
// to case. A global key that is not known here depends on the request.
func (c tokenContext) lookup(key string) (value string, present truth) {
	key = strings.ToLower(key)
	if value, ok := c.values[key]; ok {
		return value, yes
	}
	if strings.HasPrefix(key, "aws:") || strings.HasPrefix(key, "sts:") {
		return "", unknown
	}
	return "", no
}

// condition judges one Condition block; the findings say which parts fail, or can't
// be told.
func (c tokenContext) condition(at string, block Condition) (truth, []Finding) {
	result := yes
	var findings []Finding
	for _, name := range slices.Sorted(maps.Keys(block)) {
		o, known := parseOperator(name)
		for _, key := range slices.Sorted(maps.Keys(block[name])) {
			path := fmt.Sprintf("%s.Condition.%s[%q]", at, name, key)
			if !known {
				findings = append(findings, Finding{path, UnknownOperator, fmt.Sprintf("IAM has no condition operator %q", name)})
				result = no
				continue
			}
			met, why := c.entry(o, key, block[name][key])
			if met != yes {
				why.Path = path
				findings = append(findings, why)
			}
			result = result.and(met)
		}
	}
	return result, findings
}

// entry judges one key under one operator. The keys of a token have one value each,
// so ForAnyValue is the plain operator with an absent key unmet, and ForAllValues
// one with an absent key met.
func (c tokenContext) entry(o operator, key string, values Values) (truth, Finding) {
	found, present := c.lookup(key)
	if o.base == "Null" {
		return c.null(present, values)
	}
	pattern, judged := stringOperators[o.base]
	switch {
	case present == unknown || (present == yes && !judged):
		return unknown, Finding{Rule: DependsOnRequest, Message: "depends on the request, which a token does not tell"}
	case present == no:
		// An absent key meets the negated operators, IfExists and ForAllValues.
		if met := o.ifExists || o.set == "ForAllValues" || (o.negated && o.set == ""); met {
			return yes, Finding{}
		}
		return no, Finding{Rule: KeyNeverPresent, Message: "STS never sets this key for the token: its keys are " + strings.Join(c.keys(), ", ")}
	}
	matched := no
	for _, value := range values {
		switch met := c.compare(o.base, pattern, value, found); met {
		case yes:
			matched = yes
		case unknown:
			if matched == no {
				matched = unknown
			}
		case no:
		}
	}
	if matched == unknown {
		return unknown, Finding{Rule: DependsOnRequest, Message: "holds a policy variable, which a token does not tell"}
	}
	if (matched == yes) != o.negated {
		return yes, Finding{}
	}
	verb := "wants"
	if o.negated {
		verb = "excludes"
	}
	return no, Finding{Rule: ClaimMismatch, Message: fmt.Sprintf("%s %s, the token says %q", verb, quoted(values), found)}
}

func (c tokenContext) null(present truth, values Values) (truth, Finding) {
	if present == unknown {
		return unknown, Finding{Rule: DependsOnRequest, Message: "depends on the request, which a token does not tell"}
	}
	for _, value := range values {
		if wantsAbsent, err := strconv.ParseBool(value); err == nil && wantsAbsent == (present == no) {
			return yes, Finding{}
		}
	}
	return no, Finding{Rule: ClaimMismatch, Message: "the key's presence is not what Null wants"}
}

// keys lists the token's own condition keys.
func (c tokenContext) keys() []string {
	var own []string
	for key := range c.values {
		if !strings.HasPrefix(key, "aws:") {
			own = append(own, key)
		}
	}
	slices.Sort(own)
	return own
}

func (c tokenContext) compare(base string, pattern bool, value, found string) truth {
	value, literal := c.expand(value)
	switch {
	case !literal:
		return unknown
	case base == "StringEqualsIgnoreCase":
		return truthOf(strings.EqualFold(value, found))
	case pattern:
		return truthOf(Like(value, found))
	}
	return truthOf(value == found)
}

// expand fills in policy variables that name a key of the token; false where there is
// another. IAM's escapes ${*}, ${?} and ${$} stay unknown: nobody names so.
func (c tokenContext) expand(value string) (string, bool) {
	before, rest, found := strings.Cut(value, "${")
	if !found || !c.variables {
		return value, true
	}
	name, rest, closed := strings.Cut(rest, "}")
	text, present := c.lookup(name)
	if !closed || present != yes {
		return value, false
	}
	after, ok := c.expand(rest)
	return before + text + after, ok
}

// quoted lists values for a sentence.
func quoted(values Values) string {
	if len(values) == 0 {
		return "nothing"
	}
	return Quoted(values, " or ")
}

// Quoted lists texts for a sentence, each quoted and cut, at most five of them.
func Quoted(texts []string, separator string) string {
	const most = 5
	list := make([]string, 0, most+1)
	for i, text := range texts {
		if i == most {
			list = append(list, fmt.Sprintf("%d more", len(texts)-i))
			break
		}
		list = append(list, fmt.Sprintf("%.200q", text))
	}
	return strings.Join(list, separator)
}
