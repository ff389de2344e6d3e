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
	entry []byte // the JSON of the env entry, the same in each container
}

// desired is what a policy asks of one Pod.
type desired struct {
	env        []wanted
	region     EnvValue  // of both region keys, which are reconciled as a pair
	regions    [2]wanted // AWS_DEFAULT_REGION and AWS_REGION
	audience   string
	expiration int64
}

// desire lists what is to be in each injected container. The order is the order
// in which missing variables are appended.
func desire(p *policy.Policy, pod *PodView, expiration int64) desired {
	tokenFile := v1alpha1.TokenFile
	if pod.Windows() {
		tokenFile = v1alpha1.TokenFileWindows
	}
	env, entries := make([]wanted, 0, 10), make([]byte, 0, 2048) // the entries one behind the other
	newWanted := func(name string, value EnvValue, rule rule) wanted {
		start := len(entries)
		entries = appendEntry(entries, name, value)
		return wanted{name: name, value: value, rule: rule, entry: entries[start:len(entries):len(entries)]}
	}
	want := func(name, text string, rule rule) { env = append(env, newWanted(name, EnvValue{Text: text}, rule)) }
	want(v1alpha1.EnvSTSRegionalEndpoints, "regional", preference)
	want(v1alpha1.EnvRoleARN, p.Role.String(), identity)
	want(v1alpha1.EnvTokenFile, tokenFile, identity)
	env = append(env, newWanted(v1alpha1.EnvRoleSessionName, sessionName(pod.Name), preference))
	want(p.Env.BucketName, p.Bucket, identity)
	want(p.Env.BucketRegion, p.Region, preference)
	if p.Prefix != "" {
		want(p.Env.BucketPrefix, p.Prefix, preference)
	}
	if p.InstanceMetadata == v1alpha1.InstanceMetadataDeny {
		want(v1alpha1.EnvMetadataDisabled, "true", metadata)
	}
	if p.Endpoints.S3 != "" {
		want(v1alpha1.EnvEndpointS3, p.Endpoints.S3, preference)
	}
	if p.Endpoints.STS != "" {
		want(v1alpha1.EnvEndpointSTS, p.Endpoints.STS, preference)
	}
	region := EnvValue{Text: p.Region}
	return desired{
		env: env, audience: p.Audience, expiration: expiration, region: region,
		regions: [2]wanted{newWanted(v1alpha1.EnvDefaultRegion, region, preference), newWanted(v1alpha1.EnvRegion, region, preference)},
	}
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
