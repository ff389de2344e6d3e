package inject

import (
	"fmt"
	"maps"
	"slices"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// DebugContainers works out what happens to the ephemeral containers that an
// update adds to a running Pod (kubectl debug). They get what the Pod's other
// containers got, by the Pod's own record: its identity can't change any more, and
// nothing but new ephemeral containers may be patched in such a request. A
// container that brings values of its own is left alone with a warning: debugging
// is never refused.
//
// The record may be forged by whoever made the Pod, and somebody else debugs it. So
// only names that the webhook writes are taken from it, and only values that a
// container of the Pod has: those can't be changed any more.
func DebugContainers(pod *PodView, existing []Container, policies decide.Policies) Outcome {
	record, ok := ParseStatus(pod.Status)
	record.Env = confirmed(pod, record, policies)
	i := slices.IndexFunc(pod.Volumes, func(v Volume) bool { return v.Name == v1alpha1.TokenVolume && v.Token != nil })
	if !ok || i < 0 || len(record.Env) == 0 {
		return Outcome{Verdict: decide.Verdict{Kind: decide.Skip, Reason: decide.ReasonNotRequested}}
	}
	found := &findings{}
	chosen, _ := selectContainers(pod)
	plan := &Plan{}
	for i := range pod.EphemeralContainers {
		c := &pod.EphemeralContainers[i]
		isThere := func(e Container) bool { return e.Name == c.Name }
		if slices.ContainsFunc(existing, isThere) || chosen.skip[c.Name] {
			continue
		}
		if edit, ok := debugContainer(c, i, record, found); ok {
			plan.Containers = append(plan.Containers, edit)
		}
	}
	verdict := decide.Verdict{Kind: decide.Inject, Reason: decide.ReasonInjected, PolicyName: record.Policy, Source: record.Source}
	if len(plan.Containers) == 0 {
		verdict.Kind, verdict.Reason, plan = decide.Skip, decide.ReasonNotRequested, nil
	}
	return Outcome{Verdict: verdict, Plan: plan, Warnings: found.warnings}
}

// confirmed is the part of the record's variables that can be believed.
func confirmed(pod *PodView, record Status, policies decide.Policies) map[string]string {
	names := v1alpha1.InjectedEnv()
	if entry, known := policies.Lookup(record.Policy); known && entry.Policy != nil {
		names = append(names, entry.Policy.Env.BucketName, entry.Policy.Env.BucketRegion, entry.Policy.Env.BucketPrefix)
	}
	believed := map[string]string{}
	for _, name := range names {
		want, recorded := record.Env[name]
		for _, list := range [][]Container{pod.InitContainers, pod.Containers} {
			for i := range list {
				if at := list[i].last(name); recorded && at >= 0 && list[i].Env[at].Value == value(want) {
					believed[name] = want
				}
			}
		}
	}
	return believed
}

// debugContainer appends what the record names and the container lacks. A name it
// sets itself, or a static credential, leaves the container alone: half of an
// identity would be worse than none.
func debugContainer(c *Container, index int, record Status, found *findings) (ContainerEdit, bool) {
	edit := ContainerEdit{List: "ephemeralContainers", Index: index}
	names := slices.Sorted(maps.Keys(record.Env))
	for _, name := range names {
		want := value(record.Env[name])
		i := c.last(name)
		switch {
		case i < 0:
			edit.Env = append(edit.Env, EnvEdit{Name: name, Value: want, Index: appendEnv})
		case c.Env[i].Value != want:
			found.warn(WarnDebugContainer, fmt.Sprintf(
				"debug container %q sets %s itself and is left without bucket access", c.Name, name))
			return edit, false
		}
	}
	for _, name := range v1alpha1.StaticCredentialEnv() {
		if i := c.last(name); i >= 0 && !c.Env[i].Value.Empty() {
			found.warn(WarnDebugContainer, fmt.Sprintf(
				"debug container %q sets %s and is left without bucket access", c.Name, name))
			return edit, false
		}
	}
	mounts := &findings{}
	edit.Mount = mount(c, mounts)
	if len(mounts.conflicts) > 0 {
		found.warn(WarnDebugContainer, mounts.conflicts[0].text)
		return edit, false
	}
	return edit, len(edit.Env) > 0 || edit.Mount
}
