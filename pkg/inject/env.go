package inject

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// EnvEdit is one change of a container's env.
type EnvEdit struct {
	Name   string
	Value  EnvValue
	Index  int // of the entry to set or remove; appendEnv for a new one
	Remove bool

	entry []byte // the JSON of a new entry, where it is rendered already
}

const appendEnv = -1

// envReconciler brings the env of one container after the other to what is wanted.
type envReconciler struct {
	policy *policy.Policy
	want   desired
	owner  ownership
	found  *findings
	static []string // names of static credentials
}

// container returns the edits for one container, in the order: set, append, then
// remove from the highest index down, so that no index moves before it is used.
func (r *envReconciler) container(c *Container) []EnvEdit {
	if !r.concerns(c) {
		return r.want.fresh
	}
	r.staticCredentials(c)
	edits := r.regions(make([]EnvEdit, 0, len(r.want.env)+2), c)
	for i := range r.want.env {
		edits = r.variable(edits, c, &r.want.env[i])
	}
	edits = r.leftovers(edits, c)
	if slices.ContainsFunc(edits, func(e EnvEdit) bool { return e.Remove }) {
		slices.SortStableFunc(edits, removalsLast)
	}
	return edits
}

// concerns says whether c sets any variable that is written, refused or left over.
// Most containers set none, and all of those get the same edits.
func (r *envReconciler) concerns(c *Container) bool {
	names := &r.policy.Env
	return len(r.owner.status.Env) > 0 || slices.ContainsFunc(c.Env, func(e EnvVar) bool {
		return strings.HasPrefix(e.Name, "AWS_") || e.Name == names.BucketName || e.Name == names.BucketRegion || e.Name == names.BucketPrefix
	})
}

func removalsLast(a, b EnvEdit) int {
	switch {
	case a.Remove && b.Remove:
		return b.Index - a.Index
	case a.Remove:
		return 1
	case b.Remove:
		return -1
	}
	return 0
}

func (r *envReconciler) variable(edits []EnvEdit, c *Container, want *wanted) []EnvEdit {
	i := c.last(want.name)
	switch {
	case i < 0:
		return append(edits, EnvEdit{Name: want.name, Value: want.value, Index: appendEnv, entry: want.entry})
	case c.Env[i].Value == want.value:
		return duplicates(edits, c, want.name, i)
	case r.owner.replaceable(c, i) || sameSwitch(want, c.Env[i].Value):
		return duplicates(append(edits, EnvEdit{Name: want.name, Value: want.value, Index: i}), c, want.name, i)
	}
	r.foreign(c, want)
	return edits
}

// sameSwitch: SDKs read AWS_EC2_METADATA_DISABLED without regard to case.
func sameSwitch(want *wanted, found EnvValue) bool {
	return want.rule == metadata && (found.Text == "True" || found.Text == "TRUE")
}

// foreign reports a value that a user wrote. The value itself is not repeated: it
// may come from anywhere.
func (r *envReconciler) foreign(c *Container, want *wanted) {
	at := fmt.Sprintf("container %q sets %s", c.Name, want.name)
	switch want.rule {
	case identity:
		r.found.conflict(decide.ReasonIdentityConflict, fmt.Sprintf(
			"%s to another value than policy %q; remove it, or opt the container out with the annotation %s",
			at, r.policy.Name, v1alpha1.EKSAnnotationSkipContainers))
	case metadata:
		r.found.conflict(decide.ReasonIdentityConflict, fmt.Sprintf(
			"%s to another value than true, but policy %q denies instance metadata; remove it, or set the policy's instanceMetadata to Allow",
			at, r.policy.Name))
	case preference:
		r.found.warn(WarnKeptPreference, fmt.Sprintf("%s itself; it is kept in place of policy %q's value", at, r.policy.Name))
	}
}

// regions reconciles AWS_REGION and AWS_DEFAULT_REGION as one preference: SDKs
// read one or the other, so they must agree. A user's half completes the other.
func (r *envReconciler) regions(edits []EnvEdit, c *Container) []EnvEdit {
	names := [2]string{v1alpha1.EnvDefaultRegion, v1alpha1.EnvRegion}
	var users EnvValue // AWS_REGION's, which newer SDKs read, before AWS_DEFAULT_REGION's
	for _, name := range names {
		if i := c.last(name); i >= 0 && c.Env[i].Value != r.want.region && !r.owner.replaceable(c, i) {
			users = c.Env[i].Value
		}
	}
	for at, name := range names {
		i := c.last(name)
		switch {
		case users.Empty():
			edits = r.variable(edits, c, &r.want.regions[at])
		case i < 0:
			edits = append(edits, EnvEdit{Name: name, Value: users, Index: appendEnv})
		case c.Env[i].Value.Empty():
			edits = duplicates(append(edits, EnvEdit{Name: name, Value: users, Index: i}), c, name, i)
		}
	}
	if !users.Empty() {
		r.found.warn(WarnKeptPreference, fmt.Sprintf("container %q sets its region itself; it is kept in place of policy %q's, %s",
			c.Name, r.policy.Name, r.policy.Region))
	}
	return edits
}

// duplicates removes the earlier entries of a name that we write; the last one counts.
func duplicates(edits []EnvEdit, c *Container, name string, last int) []EnvEdit {
	for i := range last {
		if c.Env[i].Name == name {
			edits = append(edits, EnvEdit{Name: name, Index: i, Remove: true})
		}
	}
	return edits
}

// leftovers removes what we wrote under names that the policy no longer has, as
// in a manifest copied from a Pod that was injected before the policy changed.
func (r *envReconciler) leftovers(edits []EnvEdit, c *Container) []EnvEdit {
	if len(r.owner.status.Env) == 0 {
		return edits
	}
	for i, entry := range c.Env {
		recorded, ours := r.owner.status.Env[entry.Name]
		if ours && !r.want.has(entry.Name) && recorded == entry.Value.recorded() && entry.Value.From == "" {
			edits = append(edits, EnvEdit{Name: entry.Name, Index: i, Remove: true})
		}
	}
	return edits
}

func (d desired) has(name string) bool {
	return name == v1alpha1.EnvRegion || name == v1alpha1.EnvDefaultRegion ||
		slices.ContainsFunc(d.env, func(w wanted) bool { return w.name == name })
}

// staticCredentials looks for what every SDK prefers to web identity.
func (r *envReconciler) staticCredentials(c *Container) {
	for _, name := range r.static {
		i := c.last(name)
		if i < 0 || c.Env[i].Value.Empty() {
			continue
		}
		text := fmt.Sprintf("container %q sets %s, which every AWS SDK prefers to the role of policy %q", c.Name, name, r.policy.Name)
		if r.policy.StaticCredentials == v1alpha1.StaticCredentialsWarn {
			r.found.warn(WarnStaticCredentials, text)
		} else {
			r.found.conflict(decide.ReasonStaticCredentials, text+"; remove it, or opt the container out with the annotation "+
				v1alpha1.EKSAnnotationSkipContainers)
		}
	}
}
