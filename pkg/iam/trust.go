package iam

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// AssumeRoleWithWebIdentity is the one action of a trust policy for a token.
const AssumeRoleWithWebIdentity = "sts:AssumeRoleWithWebIdentity"

// subjectPrefix begins the sub claim of every ServiceAccount's token.
const subjectPrefix = "system:serviceaccount:"

// SubjectClaim is the sub claim of a ServiceAccount's token, or the StringLike
// pattern of several.
func SubjectClaim(s v1alpha1.Subject) string {
	return subjectPrefix + s.Namespace + ":" + s.ServiceAccount
}

// ProviderHost is the issuer as IAM writes it: without the scheme.
func ProviderHost(issuer string) string { return strings.TrimPrefix(issuer, "https://") }

// ProviderARN is the ARN of the IAM OIDC provider for an issuer. It stands in the
// role's own account, wherever the cluster is: that account is the one asked.
func ProviderARN(role RoleARN, issuer string) string {
	return "arn:" + role.partition + ":iam::" + role.account + ":oidc-provider/" + ProviderHost(issuer)
}

// Trust is what a role's trust policy is made from.
type Trust struct {
	Role     RoleARN
	Issuers  []string // https URLs, one for each cluster
	Audience string
	Subjects []v1alpha1.Subject
}

// TrustPolicy is the trust policy of the role in the bucket's account: for each
// issuer one statement, since its condition keys are the issuer's own. All subjects
// stand under StringLike as soon as one has a wildcard: two operators in one
// Condition are ANDed, so exact subjects beside patterns would match nothing.
func TrustPolicy(t Trust) (Document, error) {
	if err := t.validate(); err != nil {
		return Document{}, err
	}
	claims, operator := make(Values, 0, len(t.Subjects)), "StringEquals"
	for _, subject := range t.Subjects {
		claims = append(claims, SubjectClaim(subject))
		if HasWildcard(subject.Namespace) || HasWildcard(subject.ServiceAccount) {
			operator = "StringLike"
		}
	}
	slices.Sort(claims)
	claims = slices.Compact(claims)
	document := Document{Version: PolicyVersion}
	issuers := slices.Compact(slices.Sorted(slices.Values(t.Issuers)))
	for _, issuer := range issuers {
		host := ProviderHost(issuer)
		condition := Condition{"StringEquals": {host + ":aud": {t.Audience}}}
		if condition[operator] == nil {
			condition[operator] = map[string]Values{}
		}
		condition[operator][host+":sub"] = claims
		document.Statement = append(document.Statement, Statement{
			Effect: Allow, Principal: Principal{"Federated": {ProviderARN(t.Role, issuer)}},
			Action: Values{AssumeRoleWithWebIdentity}, Condition: condition,
		})
	}
	return document, nil
}

func (t Trust) validate() error {
	var errs []error
	if len(t.Issuers) == 0 {
		errs = append(errs, errors.New("no issuer: give the cluster's, as its /.well-known/openid-configuration says"))
	}
	for _, issuer := range t.Issuers {
		errs = append(errs, CheckProviderURL(issuer))
	}
	if len(t.Subjects) == 0 {
		errs = append(errs, errors.New("no subject: list at least one {namespace, serviceAccount}"))
	}
	if t.Role == (RoleARN{}) {
		errs = append(errs, errors.New("no role: a role's ARN is like "+roleExample))
	}
	if t.Audience == "" {
		errs = append(errs, errors.New("no audience: "+v1alpha1.DefaultAudience+" is usual"))
	}
	return errors.Join(errs...)
}

// CheckProviderURL says whether IAM takes the issuer as an OIDC provider.
// Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html.
func CheckProviderURL(issuer string) error {
	if _, err := ParseIssuer(issuer); err != nil {
		return fmt.Errorf("issuer %.200q %w", issuer, err)
	}
	u, err := url.Parse(issuer)
	switch {
	case err != nil:
		return fmt.Errorf("issuer %.200q: %w", issuer, err)
	case u.Port() != "":
		return fmt.Errorf("issuer %.200q has a port, and IAM takes none: serve the issuer's documents on 443", issuer)
	case len(issuer) > 255:
		return fmt.Errorf("issuer %.60q… has %d characters, and IAM takes 255", issuer, len(issuer))
	}
	return nil
}
