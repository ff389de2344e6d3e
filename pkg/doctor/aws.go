package doctor

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/reader"
)

// endpoint is a policy's own endpoint, or nil for AWS's.
func endpoint(url string) *string {
	if url == "" {
		return nil
	}
	return &url
}

// own are the person's AWS credentials; without any, the result says what for they are needed.
func (d *Doctor) own(ctx context.Context, action string) (aws.Config, string, result) {
	needs := "your own AWS credentials in account " + d.policy.Role.Account() + " with " + action
	own, err := config.LoadDefaultConfig(ctx, config.WithRegion(d.policy.Region))
	if err != nil {
		return own, needs, skipped("needs %s: %s", needs, err)
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := own.Credentials.Retrieve(limited); err != nil {
		return own, needs, skipped("needs %s; there are none (AWS_PROFILE, AWS_ACCESS_KEY_ID, …)", needs)
	}
	return own, needs, result{}
}

// provider looks for the OIDC provider of the cluster in the bucket's account, and for
// the policy's audience among its client IDs: STS tells neither from a wrong trust policy.
func (d *Doctor) provider(ctx context.Context) result {
	if d.live.token == "" {
		return skipped("there is no token to judge by")
	}
	provider := iam.ProviderARN(d.policy.Role, d.live.claims.Issuer)
	own, needs, check := d.own(ctx, "iam:GetOpenIDConnectProvider on "+provider)
	if check.State != "" {
		return check
	}
	answer, err := awsiam.NewFromConfig(own).GetOpenIDConnectProvider(ctx, &awsiam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &provider})
	var missing *types.NoSuchEntityException
	switch {
	case errors.As(err, &missing):
		if account := d.callerAccount(ctx, own); account != d.policy.Role.Account() {
			return skipped("needs %s; yours are of account %s", needs, account)
		}
		return d.diagnosed(diagnosis.Of(diagnosis.ProviderMissing, d.awsFacts(), "there is no "+provider))
	case err != nil:
		return skipped("needs %s: %s", needs, reader.Diagnose(err, d.awsFacts()).Detail)
	case !slices.Contains(answer.ClientIDList, d.policy.Audience):
		return d.diagnosed(diagnosis.Of(diagnosis.WrongAudience, d.awsFacts(),
			provider+" knows the audiences "+iam.Quoted(answer.ClientIDList, ", ")+", the policy's is "+d.policy.Audience))
	}
	return fine("%s, for %s", provider, d.policy.Audience)
}

// trust reads the role's trust policy, with the person's own AWS credentials, and judges
// the token by it: STS itself does not say which element it minds.
func (d *Doctor) trust(ctx context.Context) result {
	if d.live.token == "" {
		return skipped("there is no token to judge by")
	}
	own, needs, check := d.own(ctx, "iam:GetRole on "+d.policy.Role.String())
	if check.State != "" {
		return check
	}
	name := d.policy.Role.Name()
	answer, err := awsiam.NewFromConfig(own).GetRole(ctx, &awsiam.GetRoleInput{RoleName: &name})
	var missing *types.NoSuchEntityException
	switch {
	case errors.As(err, &missing):
		if account := d.callerAccount(ctx, own); account != d.policy.Role.Account() {
			return skipped("needs %s; yours are of account %s", needs, account)
		}
		return d.missingRole()
	case err != nil:
		said := reader.Diagnose(err, d.awsFacts())
		return skipped("needs %s: %s", needs, said.Detail)
	case aws.ToString(answer.Role.Arn) != d.policy.Role.String():
		return skipped("needs %s; yours see %s", needs, aws.ToString(answer.Role.Arn))
	}
	return d.judgeTrust(aws.ToString(answer.Role.AssumeRolePolicyDocument))
}

// callerAccount is the account of the person's own credentials; empty when AWS does not say.
func (d *Doctor) callerAccount(ctx context.Context, own aws.Config) string {
	answer, err := sts.NewFromConfig(own, func(o *sts.Options) {
		if d.policy.Endpoints.STS != "" {
			o.BaseEndpoint = &d.policy.Endpoints.STS
		}
	}).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "which AWS does not say"
	}
	return aws.ToString(answer.Account)
}

func sentences(findings []iam.Finding) string {
	texts := make([]string, len(findings))
	for i, f := range findings {
		texts[i] = f.String()
	}
	return list(texts)
}

// assume trades the token as an SDK in the Pod does.
func (d *Doctor) assume(ctx context.Context) result {
	if d.live.token == "" {
		return skipped("there is no token to trade")
	}
	client := sts.New(sts.Options{Region: d.policy.Region, BaseEndpoint: endpoint(d.policy.Endpoints.STS), Credentials: aws.AnonymousCredentials{}})
	answer, err := client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(d.policy.Role.String()), RoleSessionName: aws.String("bucket-access-doctor"), WebIdentityToken: &d.live.token,
		DurationSeconds: aws.Int32(900), // the shortest
	})
	if err != nil {
		wrong := reader.Diagnose(err, d.awsFacts())
		if wrong.Cause == diagnosis.RoleNotTrusting && wrong.Detail == "" {
			wrong.Detail = "STS does not say why; the check trust does, with credentials for iam:GetRole"
		}
		return d.diagnosed(wrong)
	}
	c := answer.Credentials
	d.live.credentials = credentials.NewStaticCredentialsProvider(aws.ToString(c.AccessKeyId), aws.ToString(c.SecretAccessKey), aws.ToString(c.SessionToken))
	return fine("%s", aws.ToString(answer.AssumedRoleUser.Arn))
}

func (d *Doctor) s3() *s3.Client {
	return s3.New(s3.Options{
		Region: d.policy.Region, BaseEndpoint: endpoint(d.policy.Endpoints.S3), Credentials: d.live.credentials,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired, DisableLogOutputChecksumValidationSkipped: true,
	})
}

func (d *Doctor) allows(action string) bool { return slices.Contains(d.policy.Actions, action) }

// bucket lists one key, which also tells a wrong region, a missing bucket and a denial.
func (d *Doctor) bucket(ctx context.Context) result {
	switch {
	case d.live.credentials == nil:
		return skipped("there is no session to ask with")
	case !d.allows("s3:ListBucket"):
		return skipped("s3:ListBucket is not among the policy's actions")
	}
	answer, err := d.s3().ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &d.policy.Bucket, Prefix: &d.policy.Prefix, MaxKeys: aws.Int32(1)})
	if err != nil {
		return d.diagnosed(reader.Diagnose(err, d.awsFacts()))
	}
	if len(answer.Contents) == 0 {
		return fine("listed; there is no object yet")
	}
	d.live.first = aws.ToString(answer.Contents[0].Key)
	return fine("bucket %s is listed in %s", d.policy.Bucket, d.policy.Region)
}

// object reads the first byte of an object, which also tells of KMS.
func (d *Doctor) object(ctx context.Context) result {
	facts := diagnosis.Facts{}
	if d.policy != nil {
		facts = d.awsFacts()
	}
	switch {
	case d.live.credentials == nil:
		return skipped("there is no session to ask with")
	case !d.allows("s3:GetObject"):
		return skipped("s3:GetObject is not among the policy's actions")
	case d.Key != "":
		facts.Key = d.Key
	case d.policy.Reader.ProbeKey != "":
		facts.Key = d.policy.Reader.ProbeKey
	default:
		facts.Key = d.live.first
	}
	if facts.Key == "" {
		return skipped("no object is known: give --key, or set the policy's reader.probeKey")
	}
	answer, err := d.s3().GetObject(ctx, &s3.GetObjectInput{Bucket: &d.policy.Bucket, Key: &facts.Key, Range: aws.String("bytes=0-0")})
	if err == nil {
		_, err = io.Copy(io.Discard, answer.Body)
		err = errors.Join(err, answer.Body.Close())
	}
	if err != nil {
		wrong := reader.Diagnose(err, facts)
		if wrong.Cause != diagnosis.RangeNotSatisfiable { // an empty object has no first byte
			return d.diagnosed(wrong)
		}
	}
	return fine("%s is read", facts.Key)
}
