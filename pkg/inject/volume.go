package inject

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// VolumeEdit is what happens to the token volume.
type VolumeEdit struct {
	Append, Remove bool
	// Index of the existing volume whose audience or expiration is set; with
	// neither set nothing changes.
	Index                      int
	SetAudience, SetExpiration bool
	Audience                   string
	Expiration                 int64 // seconds
}

// volume reconciles the token volume. EKS's webhook judges volumes by name only,
// so the name is EKS's, and one of that name that is something else is a conflict.
func volume(pod *PodView, want desired, owner ownership, found *findings) VolumeEdit {
	edit := VolumeEdit{Append: true, Audience: want.audience, Expiration: want.expiration}
	for i, v := range pod.Volumes {
		if v.Name != v1alpha1.TokenVolume {
			continue
		}
		edit.Append, edit.Index = false, i
		switch {
		case v.Token == nil || v.Token.Path != v1alpha1.TokenFileName:
			found.conflict(decide.ReasonVolumeConflict, fmt.Sprintf(
				"volume %q is not a projected ServiceAccount token with the path %q and nothing beside it; rename or remove that volume",
				v1alpha1.TokenVolume, v1alpha1.TokenFileName))
		case v.Token.Audience != want.audience && !slices.Contains(owner.audiences(), v.Token.Audience):
			found.conflict(decide.ReasonIdentityConflict, fmt.Sprintf(
				"volume %q asks for a token with another audience than %q; remove the volume, the webhook adds it", v1alpha1.TokenVolume, want.audience))
		default:
			edit.SetAudience = v.Token.Audience != want.audience
			edit.SetExpiration = v.Token.Expiration != want.expiration
		}
		return edit
	}
	return edit
}

// mount says whether the token mount must be appended to c.
func mount(c *Container, found *findings) bool {
	missing := true
	for _, m := range c.Mounts {
		if !atTokenPath(m.Path) {
			continue
		}
		missing = false
		if m.Name != v1alpha1.TokenVolume || m.SubPath {
			found.conflict(decide.ReasonVolumeConflict, fmt.Sprintf(
				"container %q mounts something else at %s, where the token belongs; remove that mount", c.Name, v1alpha1.TokenMountPath))
		}
	}
	return missing
}

// atTokenPath compares paths as a container runtime resolves them: /var/run is a
// link to /run in most images, but not in all, so that pair is left alone. EKS
// mounts under the Unix path on Windows too, where it means C:\var\run\….
func atTokenPath(p string) bool {
	if p == v1alpha1.TokenMountPath {
		return true
	}
	if len(p) < len(v1alpha1.TokenMountPath) {
		return false
	}
	p = strings.TrimPrefix(strings.ReplaceAll(p, `\`, "/"), "C:")
	return path.Clean(p) == v1alpha1.TokenMountPath
}
