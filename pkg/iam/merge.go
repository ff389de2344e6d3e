package iam

import (
	"encoding/json"
	"errors"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// rawDocument is a policy of which nothing is lost: what is not known here is kept too.
type rawDocument struct {
	Version   jsontext.Value `json:"Version,omitempty"`
	ID        jsontext.Value `json:"Id,omitempty"`
	Statement jsontext.Value `json:"Statement"`
	Rest      jsontext.Value `json:",embed"`
}

// MergeTrust is the trust policy existing, in which the statements for the OIDC provider
// are replaced by those of fresh: IAM only takes a whole document, so whoever writes one
// must write the others' statements too. Those that trust anybody else, alone or besides,
// are kept with each of their elements. The result is JSON on one line; replaced are the
// places of the statements that are gone, from 0.
func MergeTrust(existing []byte, provider string, fresh Document) (merged []byte, replaced []int, err error) {
	var document rawDocument
	if err := jsonv2.Unmarshal(existing, &document); err != nil {
		return nil, nil, explainSyntax(err)
	}
	var statements, kept []jsontext.Value
	switch document.Statement.Kind() {
	case '{':
		statements = []jsontext.Value{document.Statement}
	case '[':
		if err := jsonv2.Unmarshal(document.Statement, &statements); err != nil {
			return nil, nil, explainSyntax(err)
		}
	default:
		return nil, nil, errors.New("the policy has no Statement")
	}
	for i, statement := range statements {
		if trustsOnly(statement, provider) {
			replaced = append(replaced, i)
		} else {
			kept = append(kept, statement)
		}
	}
	for _, statement := range fresh.Statement {
		text, err := json.Marshal(statement)
		if err != nil {
			return nil, nil, fmt.Errorf("writing a statement: %w", err)
		}
		kept = append(kept, text)
	}
	if document.Statement, err = jsonv2.Marshal(kept); err != nil {
		return nil, nil, fmt.Errorf("writing the statements: %w", err)
	}
	merged, err = jsonv2.Marshal(document)
	return merged, replaced, err
}

// trustsOnly says whether a statement is for tokens of that provider and for nobody else.
func trustsOnly(statement jsontext.Value, provider string) bool {
	var s struct {
		Principal    Principal
		NotPrincipal jsontext.Value
	}
	if jsonv2.Unmarshal(statement, &s) != nil || s.NotPrincipal != nil || len(s.Principal) != 1 || len(s.Principal["Federated"]) == 0 {
		return false
	}
	for _, found := range s.Principal["Federated"] {
		if found != provider {
			return false
		}
	}
	return true
}
