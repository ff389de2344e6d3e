package iam

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// deletedPattern is how IAM shows a principal that was deleted: by its unique ID.
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html.
var deletedPattern = regexp.MustCompile(`^A(ROA|IDA|GPA|NPA|NVA)[A-Z0-9]{12,}$`)

// placeholders are texts of examples and templates that nobody has filled in. A policy
// variable, ${…} with a colon, is none: IAM fills it in itself.
var placeholders = regexp.MustCompile(`<[^>]*>|\$\{(AWS::)?[^}:]*\}|\$[A-Za-z_]+|\{\{|\bregion-code\b|\bREGION\b|` +
	`\b[Yy]our-(namespace|service|account|cluster|provider)|[xX]{6,}|[A-Z0-9]*EXAMPLE[A-Z0-9]*|ACCOUNT_ID|AccountId|111122223333|OIDC_(PROVIDER|ID)`)

// placeholder returns the first one in text.
func placeholder(text string) string { return placeholders.FindString(text) }

func (l *linter) principal(at string, s Statement, web bool) {
	at += ".Principal"
	if len(s.Principal) == 0 {
		if s.NotPrincipal == nil {
			l.report(at, WrongPrincipal, "is missing: name the OIDC provider, {\"Federated\": %q}", l.exampleProvider())
		}
		return
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Principal)) {
		for _, value := range s.Principal[kind] {
			l.principalValue(at+"."+kind, kind, value, s.Effect, web)
		}
	}
}

func (l *linter) principalValue(at, kind, value, effect string, web bool) {
	switch {
	case deletedPattern.MatchString(value):
		l.report(at, DeletedPrincipal, "%s is the ID of a user or role that was deleted; IAM shows it in place of the ARN, "+
			"and a new one of the same name is not trusted: write the ARN anew", value)
	case kind == "Federated":
		l.provider(at, value)
	case kind == Anyone && effect == Allow:
		l.report(strings.TrimSuffix(at, "."+Anyone), WrongPrincipal,
			"\"*\" trusts every account and every identity provider: name the OIDC provider, {\"Federated\": %q}", l.exampleProvider())
	case !web || kind == Anyone || effect == Deny:
	case kind == "Service":
		l.report(at, WrongPrincipal, "%.100q is a service of AWS (pods.eks.amazonaws.com is EKS Pod Identity's), "+
			"a ServiceAccount's token comes from an OIDC provider: write {\"Federated\": %q}", value, l.exampleProvider())
	case kind == "AWS":
		l.report(at, WrongPrincipal, "%.200q has AWS credentials and needs no web identity, a token comes from an OIDC provider: write {\"Federated\": %q}",
			value, l.exampleProvider())
	default:
		l.report(at, WrongPrincipal, "IAM knows no such kind of principal in a trust policy: AWS, Service and Federated are")
	}
}

func (l *linter) exampleProvider() string {
	return "arn:" + l.role.partition + ":iam::" + l.role.account + ":oidc-provider/<issuer without https://>"
}

// provider judges the ARN of a federated principal.
func (l *linter) provider(at, value string) {
	const infix = "oidc-provider/"
	a, err := arn.Parse(value)
	found := placeholder(value)
	host, isOIDC := strings.CutPrefix(a.Resource, infix)
	switch {
	case found != "":
		l.report(at, Placeholder, "%.100q is a placeholder that was never filled in", found)
	case strings.HasPrefix(value, "https://"):
		l.report(at, WrongProvider, "is the issuer's URL, not the provider's ARN: write %q", ProviderARN(l.role, value))
	case HasWildcard(value):
		l.report(at, WrongProvider, "has a wildcard, and IAM takes none in a federated principal: name each provider")
	case err != nil:
		l.report(at, WrongProvider, "%.200q is no ARN: write %q", value, l.exampleProvider())
	case strings.HasPrefix(a.Resource, "saml-provider/"):
		l.report(at, WrongProvider, "is a SAML provider, ServiceAccounts' tokens come from an OIDC provider: write %q", l.exampleProvider())
	case a.Service != "iam" || !isOIDC:
		l.report(at, WrongProvider, "%.200q names no OIDC provider: write %q", value, l.exampleProvider())
	case a.Region != "":
		l.report(at, WrongProvider, "names the region %q, and IAM's ARNs have none: leave it empty", a.Region)
	case strings.Contains(host, "://"):
		l.report(at, WrongProvider, "holds the issuer with its scheme: write it without https://, %q", "…:"+infix+ProviderHost(host))
	case host == "":
		l.report(at, WrongProvider, "names no issuer behind %s", infix)
	case a.Partition != l.role.partition:
		l.report(at, OtherPartition, "is of the partition %s, the role is of %s, and a provider of another partition can't be trusted", a.Partition, l.role.partition)
	case a.AccountID != l.role.account:
		l.report(at, OtherAccount, "is the provider of account %.20q, but the role is in %s, and STS looks for the provider in the role's own account: "+
			"create the provider there and name it here", a.AccountID, l.role.account)
	}
}
