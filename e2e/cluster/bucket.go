package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// NamespacePrefix is that of the Namespaces whose ServiceAccounts may read the bucket.
const NamespacePrefix = "bucket-access-e2e-"

// Bucket is a bucket of another account, and a role there that trusts the cluster's
// issuer for every ServiceAccount of Namespaces with NamespacePrefix.
type Bucket struct {
	Name, Region, RoleARN string
	S3, STS               string // endpoints; empty are AWS's own
	Key, Content          string // an object

	// Account is the account where it is the suite's own; nil is one that it can't change.
	Account *lab.AccountB
}

// Document is a policy for the bucket; more are further lines.
func (b *Bucket) Document(subjects string, more ...string) string {
	lines := []string{
		"apiVersion: bucket-access.io/v1alpha1", "kind: BucketAccessPolicy", "bucket: " + b.Name, "region: " + b.Region,
		"roleARN: " + b.RoleARN, "subjects: [" + subjects + "]",
	}
	if b.S3 != "" || b.STS != "" {
		lines = append(lines, fmt.Sprintf("endpoints: {s3: %q, sts: %q}", b.S3, b.STS))
	}
	return strings.Join(append(lines, more...), "\n")
}

// Everyone are the subjects that the role trusts.
const Everyone = `{namespace: "` + NamespacePrefix + `*", serviceAccount: "*"}`

// ownBucket starts an Account B and sets it up from the policy itself.
func (c *Cluster) ownBucket(ctx context.Context) error {
	account, err := c.StartAccountB(ctx)
	if err != nil {
		return err
	}
	b := &Bucket{
		Name: "e2e-data", Region: lab.AccountBRegion, RoleARN: "arn:aws:iam::" + lab.AccountBID + ":role/e2e-reader",
		S3: account.S3URL, STS: account.STSURL, Key: "config.json", Content: `{"orders": 42, "currency": "EUR"}`, Account: account,
	}
	parsed, errs := policy.Parse("e2e", b.Document(Everyone))
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	for _, step := range []func() error{
		func() error { return account.CreateProvider(ctx, parsed.Audience) },
		func() error { return account.CreateRole(ctx, parsed) },
		func() error { return account.CreateBucket(ctx, b.Name, map[string]string{b.Key: b.Content}) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	c.Bucket = b
	return nil
}

// givenBucket is one that the environment names.
func givenBucket() (*Bucket, error) {
	b := &Bucket{S3: os.Getenv("E2E_ENDPOINT_S3"), STS: os.Getenv("E2E_ENDPOINT_STS")}
	return b, fromEnvironment(map[string]*string{
		"E2E_BUCKET": &b.Name, "E2E_REGION": &b.Region, "E2E_ROLE_ARN": &b.RoleARN, "E2E_KEY": &b.Key, "E2E_CONTENT": &b.Content,
	})
}

// fromEnvironment reads variables that must all be there.
func fromEnvironment(variables map[string]*string) error {
	var missing []string
	for name, into := range variables {
		if *into = os.Getenv(name); *into == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("PROVIDER=%s needs %s; see e2e/README.md", Existing, strings.Join(missing, ", "))
	}
	return nil
}
