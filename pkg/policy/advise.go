package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// longTokenExpiration is the lifetime above which a token is said to live long: half a
// day. The kubelet replaces a token long before it ends, so none is needed.
const longTokenExpiration = 12 * 3600

// Advice is what is legal in a policy, and unwise.
type Advice struct {
	Field   string // as in the errors of Parse
	Message string // what it means, and what to do
}

// Advise says what of a policy is legal and unwise; key is its data key.
func (p *Policy) Advise(key string) []Advice {
	root := field.NewPath("data").Key(key)
	var all []Advice
	advise := func(path *field.Path, format string, args ...any) {
		all = append(all, Advice{path.String(), fmt.Sprintf(format, args...)})
	}
	for i, subject := range p.Subjects.All() {
		if strings.Contains(subject.Namespace, "*") && strings.Trim(subject.Namespace, "*?") == "" {
			advise(root.Child("subjects").Index(i).Child("namespace"),
				"%q is every Namespace: whoever may create one, and a ServiceAccount %s in it, has access; name the Namespaces, or a pattern that only they fit",
				subject.Namespace, subject.ServiceAccount)
		}
	}
	if p.TokenExpiration > longTokenExpiration {
		advise(root.Child("tokenExpirationSeconds"),
			"a stolen token is good for %d hours; the kubelet renews tokens by itself, so leave the key out for %d seconds",
			p.TokenExpiration/3600, v1alpha1.DefaultTokenExpirationSeconds)
	}
	if partition := iam.PartitionOf(p.Region); partition != p.Role.Partition() {
		advise(root.Child("region"), "%s is of the partition %s, and the role is of %s: no role reaches a bucket of another partition; correct the one or the other",
			p.Region, partition, p.Role.Partition())
	}
	if region := iam.RegionOfKey(p.KMSKeyARN); region != "" && region != p.Region {
		advise(root.Child("kmsKeyARN"), "the key is in %s and the bucket in %s: S3 encrypts only with keys of the bucket's own region", region, p.Region)
	}
	if p.StaticCredentials == v1alpha1.StaticCredentialsWarn {
		advise(root.Child("staticCredentials"),
			"every AWS SDK prefers static keys to the role, so Pods that hold some go on using them; take the keys away and leave the key out for Deny")
	}
	return all
}
