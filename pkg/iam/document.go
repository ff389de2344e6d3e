package iam

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// PolicyVersion is the version of IAM's policy language that is written.
const PolicyVersion = "2012-10-17"

// TrustPolicyQuota is IAM's default limit for a role's trust policy, in characters
// without white space; an account can have it raised.
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html.
const TrustPolicyQuota = 2048

// Effects of a statement.
const (
	Allow = "Allow"
	Deny  = "Deny"
)

// Document is an IAM policy document: a trust, permission, bucket or key policy.
type Document struct {
	Version   string     `json:"Version,omitempty"`
	ID        string     `json:"Id,omitempty"`
	Statement Statements `json:"Statement"`
}

// Statements are written as a list and read as a list or a single object.
type Statements []Statement

// Statement is one statement. Elements that are absent are nil or empty.
type Statement struct {
	Sid          string    `json:"Sid,omitempty"`
	Effect       string    `json:"Effect,omitempty"`
	Principal    Principal `json:"Principal,omitempty"`
	NotPrincipal Principal `json:"NotPrincipal,omitempty"`
	Action       Values    `json:"Action,omitempty"`
	NotAction    Values    `json:"NotAction,omitempty"`
	Resource     Values    `json:"Resource,omitempty"`
	NotResource  Values    `json:"NotResource,omitempty"`
	Condition    Condition `json:"Condition,omitempty"`
}

// Condition is operator to condition key to values: operators and keys are ANDed,
// the values of one key are ORed.
type Condition map[string]map[string]Values

// Principal is the kind (AWS, Federated, Service) to its values. The bare "*", which
// is anyone, is kept as the kind "*".
type Principal map[string]Values

// Anyone is the kind of the bare principal "*".
const Anyone = "*"

// Values is one text or several: IAM takes both forms for every list.
type Values []string

// MarshalJSON writes one value as a plain text, several as a list.
func (v Values) MarshalJSON() ([]byte, error) {
	if len(v) == 1 {
		return json.Marshal(v[0])
	}
	return json.Marshal([]string(v))
}

// UnmarshalJSON reads both forms; IAM takes true, false and numbers without quotes too.
func (v *Values) UnmarshalJSON(data []byte) error {
	switch jsontext.Value(data).Kind() {
	case '[':
		var list []jsontext.Value
		if err := jsonv2.Unmarshal(data, &list); err != nil {
			return err
		}
		*v = make(Values, len(list))
		for i, item := range list {
			text, err := scalar(item)
			if err != nil {
				return err
			}
			(*v)[i] = text
		}
		return nil
	default:
		text, err := scalar(data)
		*v = Values{text}
		return err
	}
}

func scalar(data jsontext.Value) (string, error) {
	switch data.Kind() {
	case '"':
		var text string
		err := jsonv2.Unmarshal(data, &text)
		return text, err
	case 't', 'f', '0':
		return string(data), nil
	default:
	}
	return "", errors.New("want a text or a list of texts")
}

// MarshalJSON writes the bare "*" as it is read.
func (p Principal) MarshalJSON() ([]byte, error) {
	if _, anyone := p[Anyone]; anyone {
		return json.Marshal(Anyone)
	}
	return json.Marshal(map[string]Values(p))
}

// UnmarshalJSON reads "*" or an object; any other text is an error.
func (p *Principal) UnmarshalJSON(data []byte) error {
	if jsontext.Value(data).Kind() == '"' {
		text, err := scalar(data)
		if err != nil || text != Anyone {
			return fmt.Errorf(`a Principal is "*" or an object like {"Federated": "arn:aws:iam::…:oidc-provider/…"}, found the text %.80q`, text)
		}
		*p = Principal{Anyone: {Anyone}}
		return nil
	}
	return jsonv2.Unmarshal(data, (*map[string]Values)(p))
}

// UnmarshalJSON reads a list or a single statement.
func (s *Statements) UnmarshalJSON(data []byte) error {
	if jsontext.Value(data).Kind() == '{' {
		*s = make(Statements, 1)
		return jsonv2.Unmarshal(data, &(*s)[0], strict)
	}
	return jsonv2.Unmarshal(data, (*[]Statement)(s), strict)
}

// strict refuses elements that IAM does not know ("Conditions"), as IAM itself does.
var strict = jsonv2.RejectUnknownMembers(true)

// ParseDocument reads a policy document. A repeated key is an error: most tools keep
// only the last, so a second StringEquals silently drops the first.
func ParseDocument(text []byte) (Document, error) {
	var document Document
	if err := jsonv2.Unmarshal(text, &document, strict); err != nil {
		return Document{}, explainSyntax(err)
	}
	if len(document.Statement) == 0 {
		return Document{}, errors.New("the policy has no Statement, so it allows nothing; a trust policy has at least one")
	}
	return document, nil
}

// explainSyntax turns a decoder's error into a sentence that says where and what to do.
func explainSyntax(err error) error {
	text := err.Error()
	var syntax *jsontext.SyntacticError
	var semantic *jsonv2.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("a key stands twice in one object, and all but the last would be lost: write it once, with all its entries (%s)", text)
	case errors.Is(err, jsonv2.ErrUnknownName):
		return fmt.Errorf("there is an element that IAM does not know: a statement has Sid, Effect, Principal, Action and Condition (%s)", text)
	case errors.As(err, &syntax):
		return fmt.Errorf("the policy is no JSON: %s", text)
	case errors.As(err, &semantic) && semantic.Err != nil:
		return fmt.Errorf("the policy has a wrong form at %s: %w", semantic.JSONPointer, semantic.Err)
	}
	return fmt.Errorf("the policy has a wrong form: %s", text)
}

// JSON is the document as indented JSON, the same bytes for the same document.
func (d Document) JSON() []byte {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		panic("iam: texts always marshal: " + err.Error())
	}
	return []byte(b.String())
}

// Size is what IAM counts against its quotas: characters without white space.
func (d Document) Size() int {
	n := 0
	for _, r := range string(d.JSON()) {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}
