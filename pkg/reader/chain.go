package reader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
)

// chain walks from the environment to the bucket and stops at the first red link.
type chain struct {
	config  *Config
	clients *clients
	now     func() time.Time

	// known is the identity of the credentials that were asked about last: STS is asked
	// once for each session, not for each proof.
	known   *Identity
	knownID string
}

// step is one check: what is fine about it, or what is wrong.
type step struct {
	id    string
	link  Link
	title string
	run   func(context.Context, *Report) (string, diagnosis.Diagnosis)
}

func (c *chain) steps() []step {
	return []step{
		{"environment", TokenLink, "The Pod is injected, and nothing stands in the way of its role", c.environment},
		{"token", TokenLink, "The token is there, valid, and says what the policy expects", c.token},
		{"session", STSLink, "STS trades the token for a session of the role", c.session},
		{"identity", RoleLink, "The session is of the policy's role", c.identity},
		{"bucket", BucketLink, "The bucket answers", c.bucket},
	}
}

// walk makes one proof.
func (c *chain) walk(ctx context.Context) *Report {
	facts := c.config.facts()
	report := &Report{CheckedAt: c.now().UTC(), Bucket: c.config.Bucket, Region: facts.Region, Prefix: c.config.Prefix, Role: facts.Role, Ready: true}
	for _, step := range c.steps() {
		check := Check{ID: step.id, Link: step.link, Title: step.title, State: Skipped}
		if report.Ready {
			detail, wrong := step.run(ctx, report)
			check.State, check.Detail = OK, detail
			if wrong.Cause != "" {
				check.State, check.Detail, check.Diagnosis, report.Ready = Fail, "", &wrong, false
			}
		}
		report.Checks = append(report.Checks, check)
	}
	return report
}

func (c *chain) facts(r *Report) diagnosis.Facts {
	facts := c.config.facts()
	facts.Claims = r.Claims
	return facts
}

// environment looks at the variables that decide which credentials an SDK takes. Unlike
// the webhook it sees what envFrom brought in.
func (c *chain) environment(ctx context.Context, r *Report) (string, diagnosis.Diagnosis) {
	var static, missing []string
	for _, name := range v1alpha1.StaticCredentialEnv() {
		if c.config.env(name) != "" {
			static = append(static, name)
		}
	}
	if len(static) > 0 {
		return "", diagnosis.Of(diagnosis.StaticCredentials, c.facts(r), "set: "+strings.Join(static, ", "))
	}
	for _, name := range []string{v1alpha1.EnvRoleARN, v1alpha1.EnvTokenFile, v1alpha1.EnvRegion} {
		if c.config.env(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return "role, token file and region are set, and no static credentials", diagnosis.Diagnosis{}
	}
	// Without web identity the SDK goes on along its chain: say where that ends.
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if found, err := c.clients.unguarded.Retrieve(ctx); err == nil {
		foreign := &foreignError{source: found.Source}
		return "", diagnosis.Of(foreign.cause(), c.facts(r), "missing: "+strings.Join(missing, ", ")+"; "+foreign.Error())
	}
	return "", diagnosis.Of(diagnosis.NotInjected, c.facts(r), "missing: "+strings.Join(missing, ", "))
}

// maxTokenFile bounds what is read where a token should be.
const maxTokenFile = 64 << 10

func (c *chain) token(_ context.Context, r *Report) (string, diagnosis.Diagnosis) {
	facts := c.facts(r)
	file, err := os.Open(facts.TokenFile)
	if err != nil {
		return "", Diagnose(err, facts)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxTokenFile+1))
	if err != nil {
		return "", Diagnose(err, facts)
	}
	claims, err := diagnosis.ParseClaims(string(text))
	if err != nil {
		return "", diagnosis.Of(diagnosis.TokenMalformed, facts, facts.TokenFile+" "+err.Error())
	}
	r.Claims, facts.Claims = &claims, &claims
	return claims.Subject + " for " + strings.Join(claims.Audiences, ", "), diagnosis.Token(facts, c.now().Unix())
}

func (c *chain) session(ctx context.Context, r *Report) (string, diagnosis.Diagnosis) {
	found, err := c.clients.credentials.Retrieve(ctx)
	if err != nil {
		return "", Diagnose(err, c.facts(r))
	}
	return "until " + endOfSession(found).UTC().Format(time.RFC3339), diagnosis.Diagnosis{}
}

// endOfSession undoes that the SDK's cache shows a session as ended when it is to be renewed.
func endOfSession(c aws.Credentials) time.Time { return c.Expires.Add(renewBefore) }

func (c *chain) identity(ctx context.Context, r *Report) (string, diagnosis.Diagnosis) {
	found, err := c.clients.credentials.Retrieve(ctx)
	if err == nil && (c.known == nil || c.knownID != found.AccessKeyID) {
		var answer *sts.GetCallerIdentityOutput
		if answer, err = c.clients.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}); err == nil {
			c.knownID = found.AccessKeyID
			c.known = &Identity{Account: aws.ToString(answer.Account), ARN: aws.ToString(answer.Arn), Expires: endOfSession(found).UTC()}
		}
	}
	if err != nil {
		return "", Diagnose(err, c.facts(r))
	}
	r.Identity = c.known
	if !isSessionOf(c.known.ARN, r.Role) {
		return "", diagnosis.Of(diagnosis.OtherIdentity, c.facts(r), fmt.Sprintf("AWS says %s, the policy says %s", c.known.ARN, r.Role))
	}
	return c.known.ARN, diagnosis.Diagnosis{}
}

// isSessionOf compares arn:…:sts::ACCOUNT:assumed-role/NAME/SESSION with the ARN of a
// role, whose path a session's ARN does not have.
func isSessionOf(session, role string) bool {
	s, err := arn.Parse(session)
	r, errRole := arn.Parse(role)
	if err != nil || errRole != nil || s.Partition != r.Partition || s.AccountID != r.AccountID {
		return false
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(s.Resource, "assumed-role/"), "/")
	return name == r.Resource[strings.LastIndexByte(r.Resource, '/')+1:]
}

// bucket reads the first byte of the probe key, or lists one key under the prefix. Never
// HeadObject or HeadBucket: their answers have no body, so nothing to tell a cause by.
func (c *chain) bucket(ctx context.Context, r *Report) (string, diagnosis.Diagnosis) {
	facts := c.facts(r)
	if facts.Key = c.config.ProbeKey; facts.Key != "" {
		object, err := c.clients.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &c.config.Bucket, Key: &facts.Key, Range: aws.String("bytes=0-0")})
		if err == nil {
			_, err = io.Copy(io.Discard, object.Body)
			err = errors.Join(err, object.Body.Close())
		}
		if err == nil {
			return "read " + facts.Key, diagnosis.Diagnosis{}
		}
		wrong := Diagnose(err, facts)
		if wrong.Cause == diagnosis.RangeNotSatisfiable { // an empty object has no first byte
			return "read " + facts.Key + ", which is empty", diagnosis.Diagnosis{}
		}
		return "", wrong
	}
	listed, err := c.clients.s3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &c.config.Bucket, Prefix: &c.config.Prefix, MaxKeys: aws.Int32(1)})
	if err != nil {
		wrong := Diagnose(err, facts)
		if wrong.Cause == diagnosis.NotGranted || wrong.Cause == diagnosis.NotGrantedOrDenied {
			wrong.Fix += " Without s3:ListBucket in the policy's actions, set the policy's reader.probeKey to an object."
		}
		return "", wrong
	}
	if len(listed.Contents) == 0 {
		return "listed; there is no object yet", diagnosis.Diagnosis{}
	}
	return "listed", diagnosis.Diagnosis{}
}
