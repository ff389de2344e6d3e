package inject

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// TestRenderingsAreNotMixedUp asks for more policies than there are places, from many goroutines:
// each gets its own bucket, and its Pod's token file and session.
func TestRenderingsAreNotMixedUp(t *testing.T) {
	t.Parallel()
	policies := make([]*policy.Policy, 4*places)
	for i := range policies {
		policies[i] = &policy.Policy{Bucket: fmt.Sprintf("bucket-%d", i), Env: v1alpha1.EnvNames{BucketName: "BUCKET_NAME"}, Hash: fmt.Sprintf("%064x", i)}
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 * places {
				p := policies[rand.IntN(len(policies))]
				v := variant{windows: rand.IntN(2) == 0, uid: rand.IntN(2) == 0}
				want := map[string]EnvValue{
					"BUCKET_NAME":               {Text: p.Bucket},
					v1alpha1.EnvTokenFile:       {Text: v1alpha1.TokenFile},
					v1alpha1.EnvRoleSessionName: {FieldPath: "metadata.name"},
				}
				if v.windows {
					want[v1alpha1.EnvTokenFile] = EnvValue{Text: v1alpha1.TokenFileWindows}
				}
				if v.uid {
					want[v1alpha1.EnvRoleSessionName] = EnvValue{FieldPath: "metadata.uid"}
				}
				got := v.of(p)
				for name, value := range want {
					is := func(e EnvEdit) bool { return e.Name == name && e.Value == value }
					if !slices.ContainsFunc(got.fresh, is) {
						t.Errorf("%+v of %s: no %s of %v in %v", v, p.Bucket, name, value, got.fresh)
						return
					}
				}
			}
		})
	}
	group.Wait()
}

// TestARenderingIsKept holds that a policy that is used again is not rendered again.
func TestARenderingIsKept(t *testing.T) {
	t.Parallel()
	p := &policy.Policy{Bucket: "kept", Hash: "a hash that no other test has"}
	// Another test's policies may have its place in between, but not each time.
	for range 1000 {
		if made := (variant{}).of(p); made == (variant{}).of(p) {
			return
		}
	}
	t.Error("rendered anew each time")
}
