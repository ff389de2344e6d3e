package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// maxDocument bounds what parsing one policy costs: a YAML tree takes some hundred
// times its text. 64 KiB hold about a thousand subjects.
const maxDocument = 64 << 10

// tokenExpirationRange is the sentence for a lifetime that is out of bounds.
const tokenExpirationRange = "must be 600 to 86400 seconds"

// ValidTokenExpiration says whether a token may live for so many seconds.
func ValidTokenExpiration(seconds int64) bool {
	return seconds >= v1alpha1.MinTokenExpirationSeconds && seconds <= v1alpha1.MaxTokenExpirationSeconds
}

// Name returns the policy that a ConfigMap's data key defines: the key less a
// trailing .yaml or .yml, which must be a label value and not "none".
func Name(key string) (string, *field.Error) {
	name, cut := strings.CutSuffix(key, ".yaml")
	if !cut {
		name = strings.TrimSuffix(key, ".yml")
	}
	at := field.NewPath("data").Key(key)
	switch name {
	case "":
		return "", invalid(at, "the key names no policy")
	case v1alpha1.PolicyNone:
		return "", invalid(at, `"none" is the label's way to opt out and can't be a policy's name`)
	}
	if faults := validation.IsValidLabelValue(name); len(faults) > 0 {
		return "", invalid(at, fmt.Sprintf("the policy's name %q can't be a label's value: %s", name, strings.Join(faults, "; ")))
	}
	return name, nil
}

// Lines are the lines of a document's fields, from 1, by the fields' paths.
type Lines map[string]int

// Parse reads the document under a ConfigMap's data key. It returns a policy, or
// every error of the document, each with its path inside the ConfigMap and its
// line inside the document.
func Parse(key, text string) (*Policy, field.ErrorList) {
	p, faults, lines := ParseAt(key, text, 1)
	for _, fault := range faults {
		if line, ok := lines[fault.Field]; ok && !strings.Contains(fault.Detail, "line ") {
			fault.Detail = strings.TrimPrefix(fmt.Sprintf("%s (line %d)", fault.Detail, line), " ")
		}
	}
	return p, faults
}

// ParseAt is Parse of a document whose first line is line first of a file: it returns the
// lines of that file, and the errors that name lines name those.
func ParseAt(key, text string, first int) (*Policy, field.ErrorList, Lines) {
	name, bad := Name(key)
	if bad != nil {
		return nil, field.ErrorList{bad}, nil
	}
	root := field.NewPath("data").Key(key)
	if len(text) > maxDocument {
		return nil, field.ErrorList{invalid(root, fmt.Sprintf("has %d bytes; a policy has at most %d", len(text), maxDocument))}, nil
	}
	document, lines, errs := decode(text, first, root)
	p, faults := validate(name, document, root, errs)
	if len(faults) > 0 {
		return nil, faults, lines
	}
	return p, nil, lines
}
