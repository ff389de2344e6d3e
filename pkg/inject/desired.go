package inject

import (
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// rule says what happens to another value that a user wrote.
type rule int

const (
	identity   rule = iota // a conflict
	preference             // kept, with a warning
	metadata               // a conflict, of the policy's instanceMetadata
)

// wanted is one variable that an injected container has.
type wanted struct {
	name  string
	value EnvValue
	rule  rule
}

// desired is what a policy asks of one Pod.
type desired struct {
	env        []wanted
	region     EnvValue // both region keys, which are reconciled as a pair
	audience   string
	expiration int64
}

// desire lists what is to be in each injected container. The order is the order
// in which missing variables are appended.
func desire(p *policy.Policy, pod *PodView, expiration int64) desired {
	text := func(s string) EnvValue { return EnvValue{Text: s} }
	tokenFile := v1alpha1.TokenFile
	if pod.Windows() {
		tokenFile = v1alpha1.TokenFileWindows
	}
	env := []wanted{
		{v1alpha1.EnvSTSRegionalEndpoints, text("regional"), preference},
		{v1alpha1.EnvRoleARN, text(p.Role.String()), identity},
		{v1alpha1.EnvTokenFile, text(tokenFile), identity},
		{v1alpha1.EnvRoleSessionName, sessionName(pod.Name), preference},
		{p.Env.BucketName, text(p.Bucket), identity},
		{p.Env.BucketRegion, text(p.Region), preference},
	}
	if p.Prefix != "" {
		env = append(env, wanted{p.Env.BucketPrefix, text(p.Prefix), preference})
	}
	if p.InstanceMetadata == v1alpha1.InstanceMetadataDeny {
		env = append(env, wanted{v1alpha1.EnvMetadataDisabled, text("true"), metadata})
	}
	if p.Endpoints.S3 != "" {
		env = append(env, wanted{v1alpha1.EnvEndpointS3, text(p.Endpoints.S3), preference})
	}
	if p.Endpoints.STS != "" {
		env = append(env, wanted{v1alpha1.EnvEndpointSTS, text(p.Endpoints.STS), preference})
	}
	return desired{env: env, region: text(p.Region), audience: p.Audience, expiration: expiration}
}

// record is the env part of the status annotation.
func (d desired) record() map[string]string {
	record := make(map[string]string, len(d.env)+2)
	for _, want := range d.env {
		record[want.name] = want.value.recorded()
	}
	record[v1alpha1.EnvRegion] = d.region.Text
	record[v1alpha1.EnvDefaultRegion] = d.region.Text
	return record
}

// sessionName makes the bucket account's CloudTrail name the Pod. STS takes 2 to
// 64 characters: a generated Pod name has 6 to 63 (the API server cuts the prefix
// to 58 and adds 5), a given one may have 1 to 253, and then the UID (36) stands in.
func sessionName(podName string) EnvValue {
	if n := len(podName); n != 0 && (n < 2 || n > 64) {
		return EnvValue{FieldPath: "metadata.uid"}
	}
	return EnvValue{FieldPath: "metadata.name"}
}
