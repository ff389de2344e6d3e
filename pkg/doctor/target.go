package doctor

import (
	"fmt"
	"strings"
)

// Kind of a target.
type Kind string

// The kinds. Everything is the installation and all that uses it.
const (
	Everything     Kind = ""
	Pod            Kind = "pod"
	ServiceAccount Kind = "serviceaccount"
	Namespace      Kind = "namespace"
	Policy         Kind = "policy"
)

// Target is whose access is looked at.
type Target struct {
	Kind      Kind
	Namespace string // of a Pod or a ServiceAccount, or the Namespace itself
	Name      string
}

var kinds = map[string]Kind{
	"pod": Pod, "pods": Pod, "po": Pod, "serviceaccount": ServiceAccount, "serviceaccounts": ServiceAccount, "sa": ServiceAccount,
	"namespace": Namespace, "namespaces": Namespace, "ns": Namespace, "policy": Policy,
}

// ParseTarget reads KIND/NAME, or the bare name of a policy; an empty text is everything.
func ParseTarget(text, namespace string) (Target, error) {
	kind, name, both := strings.Cut(text, "/")
	switch {
	case text == "":
		return Target{Namespace: namespace}, nil
	case !both:
		return Target{Kind: Policy, Name: text}, nil
	}
	known, ok := kinds[strings.ToLower(kind)]
	if !ok || name == "" || strings.Contains(name, "/") {
		return Target{}, fmt.Errorf("%q is none of pod/NAME, sa/NAME, ns/NAME and the name of a policy", text)
	}
	switch known {
	case Namespace:
		namespace = name
	case Policy:
		namespace = ""
	default:
	}
	return Target{Kind: known, Namespace: namespace, Name: name}, nil
}

func (t Target) String() string {
	switch t.Kind {
	case Everything:
		return "everything"
	case Pod, ServiceAccount:
		return string(t.Kind) + " " + t.Namespace + "/" + t.Name
	default:
		return string(t.Kind) + " " + t.Name
	}
}
