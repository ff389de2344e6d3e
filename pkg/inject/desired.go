package inject

import (
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync/atomic"

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
	*rendering

	audience   string
	expiration int64
}

// rendering is what a policy writes into containers, where it is the same for many Pods. It is
// shared and never changed.
type rendering struct {
	hash    string    // the policy's
	env     []wanted  // in the order in which missing variables are appended
	region  EnvValue  // of both region keys, which are reconciled as a pair
	regions [2]wanted // AWS_DEFAULT_REGION and AWS_REGION
	fresh   []EnvEdit // for a container that sets none of the variables
	record  string    // the env part of the status annotation, as JSON
}

// desire lists what is to be in each injected container.
func desire(p *policy.Policy, pod *PodView, expiration int64) desired {
	v := variant{windows: pod.Windows(), uid: !namesSession(pod.Name)}
	return desired{rendering: rendered.of(p, v), audience: p.Audience, expiration: expiration}
}

// variant is what of a Pod changes a rendering.
type variant struct {
	windows bool
	uid     bool // stands in for the name, see namesSession
}

// renderings are those that were used last, of some 4 KB each. A policy may be in either of two
// places, so that few of those in use share one. Its hash is over all that is rendered, so that none
// is ever out of date.
type renderings [4][places]atomic.Pointer[rendering]

const places = 256 // of each variant

var (
	rendered renderings
	seed     = maphash.MakeSeed()
)

// of renders a policy, or takes what was rendered before.
func (r *renderings) of(p *policy.Policy, v variant) *rendering {
	one, two := r.places(p.Hash, v)
	first, second := one.Load(), two.Load()
	switch {
	case first != nil && first.hash == p.Hash:
		return first
	case second != nil && second.hash == p.Hash:
		return second
	}
	made := v.render(p)
	// Whichever is out of use goes in the end.
	if first == nil || second != nil && rand.IntN(2) == 0 { //nolint:gosec // nobody gains by knowing
		one.Store(made)
	} else {
		two.Store(made)
	}
	return made
}

func (r *renderings) places(hash string, v variant) (one, two *atomic.Pointer[rendering]) {
	at := 0
	if v.windows {
		at |= 1
	}
	if v.uid {
		at |= 2
	}
	sum := maphash.String(seed, hash)
	return &r[at][sum%places], &r[at][sum/places%places]
}

func (v variant) render(p *policy.Policy) *rendering {
	tokenFile, session := v1alpha1.TokenFile, EnvValue{FieldPath: "metadata.name"}
	if v.windows {
		tokenFile = v1alpha1.TokenFileWindows
	}
	if v.uid {
		session.FieldPath = "metadata.uid"
	}
	const most = 10 // variables besides the regions
	r := &rendering{hash: p.Hash, region: EnvValue{Text: p.Region}, env: make([]wanted, 0, most)}
	entries := make([]byte, 0, 1280) // one behind the other
	newWanted := func(name string, value EnvValue, rule rule) wanted {
		start := len(entries)
		entries = appendEntry(entries, name, value)
		return wanted{name: name, value: value, rule: rule, entry: entries[start:len(entries):len(entries)]}
	}
	want := func(name, text string, rule rule) { r.env = append(r.env, newWanted(name, EnvValue{Text: text}, rule)) }
	want(v1alpha1.EnvSTSRegionalEndpoints, "regional", preference)
	want(v1alpha1.EnvRoleARN, p.Role.String(), identity)
	want(v1alpha1.EnvTokenFile, tokenFile, identity)
	r.env = append(r.env, newWanted(v1alpha1.EnvRoleSessionName, session, preference))
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
	r.regions = [2]wanted{newWanted(v1alpha1.EnvDefaultRegion, r.region, preference), newWanted(v1alpha1.EnvRegion, r.region, preference)}
	r.share()
	return r
}

// share works out what depends on the variables alone.
func (r *rendering) share() {
	record := make(map[string]string, len(r.env)+len(r.regions))
	r.fresh = make([]EnvEdit, 0, len(r.env)+len(r.regions))
	for _, want := range slices.Concat(r.regions[:], r.env) {
		r.fresh = append(r.fresh, EnvEdit{Name: want.name, Value: want.value, Index: appendEnv, entry: want.entry})
		record[want.name] = want.value.recorded()
	}
	r.record = string(appendStrings(nil, record))
}

// namesSession says whether a Pod's name can be its session's, by which the bucket account's
// CloudTrail names the Pod. STS takes 2 to 64 characters: a generated Pod name has 6 to 63 (the
// API server cuts the prefix to 58 and adds 5), a given one may have 1 to 253, and then the UID
// (36) stands in.
func namesSession(podName string) bool {
	n := len(podName)
	return n == 0 || 2 <= n && n <= 64
}
