package iam

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Partitions are the AWS partitions whose ARNs are accepted.
func Partitions() []string {
	return []string{"aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"}
}

// RoleARN is a well-formed ARN of an IAM role.
type RoleARN struct {
	partition, account, path, name string
}

var (
	accountPattern  = regexp.MustCompile(`^[0-9]{12}$`)
	roleNamePattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,64}$`)
	rolePathPattern = regexp.MustCompile(`^/([!-.0-~]+/)*$`)
	keyIDPattern    = regexp.MustCompile(`^key/[A-Za-z0-9-]{1,128}$`)
)

const roleExample = "arn:aws:iam::222222222222:role/s3-reader-role"

// ParseRoleARN checks s; the error says what is wrong and shows the form.
// Limits: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html.
func ParseRoleARN(s string) (RoleARN, error) {
	a, err := arn.Parse(s)
	if err != nil {
		return RoleARN{}, fmt.Errorf("is no ARN; a role's is like %s", roleExample)
	}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if !slices.Contains(Partitions(), a.Partition) {
		fault("partition %q is none of %s", a.Partition, strings.Join(Partitions(), ", "))
	}
	if a.Service != "iam" {
		fault("service is %q, not iam", a.Service)
	}
	if a.Region != "" {
		fault("IAM ARNs have no region, found %q", a.Region)
	}
	if !accountPattern.MatchString(a.AccountID) {
		fault("account %q is not 12 digits", a.AccountID)
	}
	rest, isRole := strings.CutPrefix(a.Resource, "role/")
	path, name := "/", rest
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		path, name = "/"+rest[:i+1], rest[i+1:]
	}
	switch {
	case !isRole:
		fault("resource %q is not a role (role/NAME)", a.Resource)
	case !roleNamePattern.MatchString(name):
		fault("role name %q is not 1 to 64 of letters, digits and _+=,.@-", name)
	case len(path) > 512 || !rolePathPattern.MatchString(path):
		fault("role path %q is not made of /-separated parts, 512 characters at most", path)
	}
	if len(faults) > 0 {
		return RoleARN{}, errors.New(strings.Join(faults, "; ") + "; a role's ARN is like " + roleExample)
	}
	return RoleARN{partition: a.Partition, account: a.AccountID, path: path, name: name}, nil
}

// String is the ARN as AWS writes it.
func (r RoleARN) String() string {
	return "arn:" + r.partition + ":iam::" + r.account + ":role" + r.path + r.name
}

// Partition is aws, aws-cn, aws-us-gov, ….
func (r RoleARN) Partition() string { return r.partition }

// Account is the 12 digits of the account that owns the role.
func (r RoleARN) Account() string { return r.account }

// Name is the role's name without its path.
func (r RoleARN) Name() string { return r.name }

// ParseKMSKeyARN checks the ARN of a KMS key. Aliases are refused: an alias's ARN
// in a policy's Resource grants nothing on the key.
func ParseKMSKeyARN(s string) (string, error) {
	const example = "arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	a, err := arn.Parse(s)
	if err != nil || a.Service != "kms" || !slices.Contains(Partitions(), a.Partition) ||
		!regionPattern.MatchString(a.Region) || !accountPattern.MatchString(a.AccountID) || !keyIDPattern.MatchString(a.Resource) {
		return "", errors.New("is no ARN of a KMS key (an alias does not do); it is like " + example)
	}
	return s, nil
}

// RegionOfKey is the region inside the ARN of a KMS key, or empty.
func RegionOfKey(keyARN string) string {
	a, err := arn.Parse(keyARN)
	if err != nil {
		return ""
	}
	return a.Region
}

// PartitionOf is the partition of a region.
// Source: the partitions of botocore's endpoints.
func PartitionOf(region string) string {
	for _, known := range []struct{ prefix, partition string }{
		{"cn-", "aws-cn"}, {"us-gov-", "aws-us-gov"}, {"us-iso-", "aws-iso"}, {"us-isob-", "aws-iso-b"},
		{"eu-isoe-", "aws-iso-e"}, {"us-isof-", "aws-iso-f"}, {"eu-isof-", "aws-iso-f"}, {"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(region, known.prefix) {
			return known.partition
		}
	}
	return "aws"
}

// Path is the role's path, which begins and ends with a slash.
func (r RoleARN) Path() string { return r.path }
