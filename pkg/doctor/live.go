package doctor

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// session is what the live checks hand on to each other. None of it is ever shown but
// the claims.
type session struct {
	token       string
	claims      *diagnosis.Claims
	credentials aws.CredentialsProvider
	first       string // the first key that was listed
}

// liveSteps are the checks that leave the cluster.
func (d *Doctor) liveSteps() []step {
	if !d.Live {
		return []step{{"live", "A token is traded for a session that reads the bucket", func(context.Context) result {
			return skipped("give --live to ask for a token, and AWS for access with it")
		}}}
	}
	return []step{
		{"token", "The token says what the policy expects", d.token},
		{"provider", "The bucket's account knows the cluster's issuer", d.provider},
		{"trust", "The role's trust policy allows the token", d.trust},
		{"session", "STS trades the token for a session of the role", d.assume},
		{"bucket", "The bucket answers, in the policy's region", d.bucket},
		{"object", "An object can be read", d.object},
	}
}

// subject finds the ServiceAccount whose token is asked for.
func (d *Doctor) subject() (types.NamespacedName, bool) {
	if d.account.Name != "" {
		return types.NamespacedName{Namespace: d.account.Namespace, Name: d.account.Name}, true
	}
	var listed []types.NamespacedName
	for name := range d.facts.Accounts {
		if d.policy.Subjects.Allow(name.Namespace, name.Name) {
			listed = append(listed, name)
		}
	}
	if len(listed) == 0 {
		return types.NamespacedName{}, false
	}
	return slices.MinFunc(listed, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) }), true
}

// tokenSeconds is as short as the API server allows.
const tokenSeconds = v1alpha1.MinTokenExpirationSeconds

func (d *Doctor) token(ctx context.Context) result {
	if d.policy == nil {
		return skipped("no policy is known: give --live with a Pod, a ServiceAccount or a policy")
	}
	name, found := d.subject()
	if !found {
		return skipped("policy %s lists no ServiceAccount that exists", d.policy.Name)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{d.policy.Audience}, ExpirationSeconds: ptr.To(int64(tokenSeconds)),
	}}
	answer, err := d.Clients.CoreV1().ServiceAccounts(name.Namespace).CreateToken(ctx, name.Name, request, metav1.CreateOptions{})
	if err != nil {
		check := unread(err, "create serviceaccounts/token of "+name.Name+" in namespace "+name.Namespace)
		if check.State == Skipped {
			check.Fix = "no viewer has it, on purpose: have somebody look who may act as the ServiceAccount"
		}
		return check
	}
	claims, err := diagnosis.ParseClaims(answer.Status.Token)
	if err != nil {
		return failed("the token "+err.Error(), "see that the API server issues JWTs", "")
	}
	d.live.token, d.live.claims = answer.Status.Token, &claims
	if wrong := diagnosis.Token(d.awsFacts(), time.Now().Unix()); wrong.Cause != "" {
		return d.diagnosed(wrong)
	}
	return fine("iss %s, sub %s, aud %s", claims.Issuer, claims.Subject, strings.Join(claims.Audiences, ", "))
}

// awsFacts are what diagnoses are made of.
func (d *Doctor) awsFacts() diagnosis.Facts {
	p := d.policy
	expect := diagnosis.Expect{Issuer: p.Issuer, Audience: p.Audience}
	if expect.Issuer == "" {
		expect.Issuer = d.facts.Cluster.Issuer
	}
	for _, s := range p.Subjects.All() {
		expect.Subjects = append(expect.Subjects, iam.SubjectClaim(s))
	}
	return diagnosis.Facts{
		Role: p.Role.String(), Bucket: p.Bucket, Region: p.Region, Prefix: p.Prefix, STSEndpoint: p.Endpoints.STS, S3Endpoint: p.Endpoints.S3,
		TokenFile: v1alpha1.TokenFile, Claims: d.live.claims, Expect: expect,
	}
}
