package status

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Carried is what a Pod has been given, by its own record: the policy may be another now.
type Carried struct {
	Role string
	// Variables are those of the bucket, by the names that the policy gave them.
	Variables map[string]string
}

func carried(record inject.Status) Carried {
	c := Carried{Role: record.Env[v1alpha1.EnvRoleARN]}
	for name, value := range record.Env {
		if !strings.HasPrefix(name, "AWS_") && value != record.Env[v1alpha1.EnvRegion] {
			if c.Variables == nil {
				c.Variables = map[string]string{}
			}
			c.Variables[name] = value
		}
	}
	return c
}

// bucketName is what can name a bucket, and a prefix seldom.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// bucket is the one that a Pod was given. The variable's name is for the policy to choose, and
// that may be gone (nil): then it is the first that can be.
func (c Carried) bucket(p *policy.Policy) string {
	names := []string{v1alpha1.EnvBucketName}
	if p != nil {
		names = []string{p.Env.BucketName, v1alpha1.EnvBucketName}
	}
	for _, name := range slices.Concat(names, slices.Sorted(maps.Keys(c.Variables))) {
		if value := c.Variables[name]; bucketName.MatchString(value) {
			return value
		}
	}
	return ""
}

// prefix is the one that a Pod was given, empty where it can't be told.
func (c Carried) prefix(p *policy.Policy) string {
	if p != nil && c.Variables[p.Env.BucketPrefix] != "" {
		return c.Variables[p.Env.BucketPrefix]
	}
	return c.Variables[v1alpha1.EnvBucketPrefix]
}
