package inject

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// TestRenderingsAreNotMixedUp asks for more policies than there are places, from many goroutines:
// each gets its own.
func TestRenderingsAreNotMixedUp(t *testing.T) {
	t.Parallel()
	policies := make([]*policy.Policy, 4*places)
	for i := range policies {
		policies[i] = &policy.Policy{Bucket: fmt.Sprintf("bucket-%d", i), Env: v1alpha1.EnvNames{BucketName: "BUCKET_NAME"}, Hash: fmt.Sprintf("%064x", i)}
	}
	var all renderings
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 * places {
				p := policies[rand.IntN(len(policies))]
				v := variant{windows: rand.IntN(2) == 0, uid: rand.IntN(2) == 0}
				if got, want := all.of(p, v), v.render(p); !reflect.DeepEqual(got, want) {
					t.Errorf("%+v of %s: %s; want %s", v, p.Bucket, got.record, want.record)
					return
				}
			}
		})
	}
	group.Wait()
}

// TestARenderingIsKept holds that a policy that is used again is not rendered again.
func TestARenderingIsKept(t *testing.T) {
	t.Parallel()
	var all renderings
	p := &policy.Policy{Bucket: "kept", Hash: "1"}
	if made := all.of(p, variant{}); made != all.of(p, variant{}) {
		t.Error("rendered anew")
	}
}

// TestTheHashIsOverAllThatIsRendered changes one field of a policy after the other: where its hash
// stays, so does all that is rendered, for any Pod.
func TestTheHashIsOverAllThatIsRendered(t *testing.T) {
	t.Parallel()
	const all = `apiVersion: bucket-access.io/v1alpha1
kind: BucketAccessPolicy
bucket: orders-data
region: eu-west-1
roleARN: arn:aws:iam::222222222222:role/s3-reader-role
subjects: [{namespace: default, serviceAccount: api-sa}]
audience: sts.amazonaws.com
tokenExpirationSeconds: 900
prefix: eu/
actions: [s3:GetObject]
kmsKeyARN: arn:aws:kms:eu-west-1:222222222222:key/1234abcd-12ab-34cd-56ef-1234567890ab
issuer: https://oidc.eks.eu-west-1.amazonaws.com/id/X
env: {bucketName: ORDERS_BUCKET, bucketRegion: ORDERS_REGION, bucketPrefix: ORDERS_PREFIX}
endpoints: {s3: "https://s3.example.com", sts: "https://sts.example.com:8443/x"}
staticCredentials: Warn
instanceMetadata: Allow
reader: {inject: true, gate: Startup, probeKey: eu/probe}
`
	parse := func(document string) *policy.Policy {
		p, errs := policy.Parse("orders", document)
		if len(errs) > 0 {
			t.Fatal(errs.ToAggregate())
		}
		return p
	}
	before, rendered, kept := parse(all), 0, 0
	for _, change := range [][2]string{
		{"orders-data", "other-data"}, {"region: eu-west-1", "region: eu-west-2"}, {"role/s3-reader-role", "role/other"}, {"api-sa", "other-sa"},
		{"audience: sts.amazonaws.com", "audience: other"}, {"Seconds: 900", "Seconds: 901"}, {"prefix: eu/", `prefix: ""`}, {"s3:GetObject", "s3:ListBucket"},
		{"key/1234abcd", "key/0234abcd"}, {"id/X", "id/Y"}, {"ORDERS_BUCKET", "A"}, {"ORDERS_REGION", "B"}, {"ORDERS_PREFIX", "C"},
		{"s3.example", "s4.example"}, {"sts.example", "sts2.example"}, {"Warn", "Deny"}, {"Allow", "Deny"}, {"inject: true", "inject: false"},
		{"Startup", "None"}, {"probeKey: eu/probe", "probeKey: eu/other"},
	} {
		changed := strings.Replace(all, change[0], change[1], 1)
		if changed == all {
			t.Fatalf("there is no %s", change[0])
		}
		if change[1] == `prefix: ""` {
			changed = strings.Replace(changed, "eu/probe", "probe", 1)
		}
		after := parse(changed)
		for _, v := range []variant{{}, {windows: true}, {uid: true}, {windows: true, uid: true}} {
			one, two := v.render(before), v.render(after)
			two.hash = one.hash
			same := reflect.DeepEqual(one, two)
			switch {
			case !same:
				rendered++
			case before.Hash == after.Hash:
				kept++
			}
			if !same && before.Hash == after.Hash {
				t.Errorf("%s instead of %s is rendered otherwise, and the hash is the same", change[1], change[0])
			}
		}
	}
	if rendered < 4*9 || kept < 4*5 {
		t.Errorf("%d changes were seen in what is rendered, %d in neither: this proves little", rendered, kept)
	}
}

// TestWhatIsOutOfUseGivesWay renders more policies than there are places, once each, and then a few
// again and again, as after many changes: these are kept.
func TestWhatIsOutOfUseGivesWay(t *testing.T) {
	t.Parallel()
	var all renderings
	v := variant{windows: true, uid: true}
	named := func(i int) *policy.Policy { return &policy.Policy{Bucket: "b", Hash: strconv.Itoa(i)} }
	for i := range 8 * places {
		all.of(named(i), v)
	}
	const used, rounds = places / 4, 50
	var made [used]*rendering
	anew := 0
	for range rounds {
		for i := range used {
			if now := all.of(named(i), v); now != made[i] {
				made[i] = now
				anew++
			}
		}
	}
	if anew > rounds*used/10 {
		t.Errorf("of %d that were asked for, %d were rendered anew", rounds*used, anew)
	}
}
