package inject

import (
	"slices"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// takeBack removes what this very request has injected before, where an implied
// request turns out to be unmet only in a second pass: a webhook behind ours added a
// container that brings credentials of its own. The Pod then comes out as if that
// container had been there from the start. A record of another policy or another
// state of it is a copied manifest's, and its values are left as they are.
func takeBack(plan *Plan, pod *PodView, verdict decide.Verdict) {
	record, ok := ParseStatus(pod.Status)
	if plan == nil || !ok || verdict.Explicit() || record.Policy != verdict.PolicyName ||
		record.Source != verdict.Source || record.Hash != verdict.Policy.Hash {
		return
	}
	mounted, reader := false, recordedReader(pod, record.Reader)
	for _, list := range []struct {
		name       string
		containers []Container
	}{{"initContainers", pod.InitContainers}, {"containers", pod.Containers}} {
		for i := range list.containers {
			c := &list.containers[i]
			if !slices.Contains(record.Containers, c.Name) {
				ours := list.name == "initContainers" && i == reader
				mounted = mounted || !ours && slices.ContainsFunc(c.Mounts, func(m Mount) bool { return m.Name == v1alpha1.TokenVolume })
				continue
			}
			edit := ContainerEdit{List: list.name, Index: i}
			for at := len(c.Env) - 1; at >= 0; at-- {
				if recorded, ours := record.Env[c.Env[at].Name]; ours && recorded == c.Env[at].Value.recorded() {
					edit.Env = append(edit.Env, EnvEdit{Name: c.Env[at].Name, Index: at, Remove: true})
				}
			}
			edit.Unmount = 1 + slices.IndexFunc(c.Mounts, func(m Mount) bool {
				return m.Name == v1alpha1.TokenVolume && atTokenPath(m.Path)
			})
			plan.Containers = append(plan.Containers, edit)
		}
	}
	if reader >= 0 {
		plan.Reader = ReaderEdit{Remove: true, Index: reader}
	}
	at := slices.IndexFunc(pod.Volumes, func(v Volume) bool { return v.Name == v1alpha1.TokenVolume && v.Token != nil })
	if at >= 0 && !mounted {
		plan.Volume = VolumeEdit{Remove: true, Index: at}
	}
}
