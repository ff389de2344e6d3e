package inject

import (
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// ownership tells whose a value is: ours, EKS's, or the user's.
type ownership struct {
	status Status // what we wrote before; zero when nothing is recorded
	around Surroundings
}

// eksRole is the role that EKS's own webhook injects for the Pod's ServiceAccount;
// empty when it leaves the Pod alone.
func (o ownership) eksRole() string {
	return o.around.ServiceAccount.Annotations[v1alpha1.EKSAnnotationRoleARN]
}

// audiences are the audiences of a token volume that is ours or EKS's.
func (o ownership) audiences() []string {
	eks, ok := o.around.ServiceAccount.Annotations[v1alpha1.EKSAnnotationAudience]
	if !ok {
		eks = o.around.EKSAudience
	}
	known := []string{v1alpha1.DefaultAudience}
	for _, audience := range []string{eks, o.status.Audience} {
		if audience != "" { // an empty one is the API server's own, so a user's
			known = append(known, audience)
		}
	}
	return known
}

// replaceable says whether entry i of c's env is ours or EKS's, or says nothing.
func (o ownership) replaceable(c *Container, i int) bool {
	entry := c.Env[i]
	if entry.Value.Empty() {
		return true
	}
	if recorded, ok := o.status.Env[entry.Name]; ok && recorded == entry.Value.recorded() && entry.Value.From == "" {
		return true
	}
	switch entry.Name {
	case v1alpha1.EnvRoleARN:
		return entry.Value.Text != "" && entry.Value.Text == o.eksRole()
	case v1alpha1.EnvTokenFile:
		return entry.Value.Text == v1alpha1.TokenFile || entry.Value.Text == v1alpha1.TokenFileWindows
	case v1alpha1.EnvRegion, v1alpha1.EnvDefaultRegion:
		return entry.Value.Text != "" && (entry.Value.Text == o.around.Cluster.Region || o.eksRegion(c, i))
	}
	return false
}

// injectedBefore says that c was injected in an earlier pass and is so still: it has a
// variable from the record that EKS never writes. EKS adds nothing to such a container,
// so a region in it that is not ours is the user's, wherever it stands.
func (o ownership) injectedBefore(c *Container) bool {
	return slices.Contains(o.status.Containers, c.Name) && slices.ContainsFunc(c.Env, func(e EnvVar) bool {
		recorded, ours := o.status.Env[e.Name]
		return ours && !strings.HasPrefix(e.Name, "AWS_") && recorded == e.Value.recorded()
	})
}

// eksRegion recognizes EKS's region keys where the cluster's region is unknown, by
// how EKS's webhook appends them: AWS_DEFAULT_REGION and AWS_REGION together, of
// one value, right behind its AWS_STS_REGIONAL_ENDPOINTS or right before its web
// identity pair, and only if the ServiceAccount names a role.
func (o ownership) eksRegion(c *Container, i int) bool {
	if o.eksRole() == "" || o.injectedBefore(c) {
		return false
	}
	first := i
	if c.Env[i].Name == v1alpha1.EnvRegion {
		first = i - 1
	}
	names := func(from int, want ...string) bool {
		return from >= 0 && from+len(want) <= len(c.Env) &&
			slices.EqualFunc(c.Env[from:from+len(want)], want, func(e EnvVar, name string) bool { return e.Name == name })
	}
	if !names(first, v1alpha1.EnvDefaultRegion, v1alpha1.EnvRegion) || c.Env[first].Value != c.Env[first+1].Value {
		return false
	}
	return names(first-1, v1alpha1.EnvSTSRegionalEndpoints) || names(first+2, v1alpha1.EnvRoleARN, v1alpha1.EnvTokenFile)
}
