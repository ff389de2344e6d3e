package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/bucket-access/bucket-access-webhook/pkg/admission"
	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// onePod holds the Pod against what the webhook would make of it now.
func (d *Doctor) onePod(context.Context) result {
	if d.policy == nil {
		return skipped("no policy applies")
	}
	kept := status.PodOf(d.pod)
	kind, carried, verdict := d.facts.Judge(&kept)
	anew := d.facts.Anew(&kept)
	switch kind {
	case status.Revoked:
		mend := d.facts.Withdraw(&kept)
		return failed("the Pod still carries policy "+carried+", which does not list its ServiceAccount any more", mend.Fix, mend.Command)
	case status.Outdated:
		return failed("the Pod carries "+d.difference(carried)+"; a running Pod is never changed", anew.Fix, anew.Command)
	case status.Current:
		return fine("it carries policy %s, as it is now", carried)
	default:
	}
	document, err := json.Marshal(d.pod)
	if err != nil {
		return failed("the Pod can't be judged: "+err.Error(), "report it as a bug", "")
	}
	view, err := admission.ReadPod(document)
	if err != nil {
		return failed("the Pod can't be judged: "+err.Error(), "report it as a bug", "")
	}
	outcome := inject.Pod(view, verdict, inject.Surroundings{ServiceAccount: d.account, Cluster: d.facts.Cluster, EKSAudience: v1alpha1.DefaultAudience})
	if outcome.Policy == nil { // made anew, it would be refused or left alone
		return failed(strings.TrimPrefix(outcome.Message, "bucket-access: "), "change "+kept.Owner.String()+" as the sentence says",
			d.editOwner(&kept))
	}
	return failed("the Pod is not injected: it was made before the label, or while the webhook was not called", anew.Fix, anew.Command)
}

// editOwner is the command that changes what a Pod is made from; nothing that counts can be
// changed in a Pod that nobody makes.
func (d *Doctor) editOwner(p *status.Pod) string {
	if p.Owner.Kind == "pod" {
		return ""
	}
	return d.Kubectl.In(p.Namespace, "edit", p.Owner.String())
}

// difference says what of an outdated Pod is another than the policy says.
func (d *Doctor) difference(carried string) string {
	if carried != d.policy.Name {
		return "policy " + carried + ", and its label says " + d.policy.Name
	}
	record, _ := inject.ParseStatus(d.pod.Annotations[v1alpha1.AnnotationStatus])
	var changed []string
	for _, field := range []struct{ name, had, has string }{
		{"role", record.Env[v1alpha1.EnvRoleARN], d.policy.Role.String()}, {"bucket", record.Env[d.policy.Env.BucketName], d.policy.Bucket},
		{"prefix", record.Env[d.policy.Env.BucketPrefix], d.policy.Prefix}, {"region", record.Env[v1alpha1.EnvRegion], d.policy.Region},
		{"audience", record.Audience, d.policy.Audience},
	} {
		if field.had != field.has {
			changed = append(changed, fmt.Sprintf("%s %q instead of %q", field.name, field.had, field.has))
		}
	}
	if len(changed) == 0 {
		return "an older version of policy " + carried
	}
	return "an older version of policy " + carried + ": " + strings.Join(changed, ", ")
}

// credentials looks for what SDKs prefer to the role, also behind envFrom, which
// admission can't see. Of ConfigMaps and Secrets the names of keys are read, and nothing
// else: they stand in the metadata.
func (d *Doctor) credentials(ctx context.Context) result {
	if d.policy == nil {
		return skipped("no policy applies")
	}
	var found, hidden []string
	for _, c := range slices.Concat(d.pod.Spec.InitContainers, d.pod.Spec.Containers) {
		for _, name := range literal(&c) {
			found = append(found, fmt.Sprintf("container %s sets %s", c.Name, name))
		}
		for _, from := range c.EnvFrom {
			kind, name, keys, err := d.keys(ctx, from)
			switch {
			case errors.Is(err, errUnnamed):
				hidden = append(hidden, fmt.Sprintf("%s %s, from which container %s takes variables, does not tell the names of all its keys "+
					"(managedFields were removed): look yourself", kind, name, c.Name))
			case err != nil && !apierrors.IsNotFound(err): // one that is not there brings nothing
				hidden = append(hidden, fmt.Sprintf("no right to get %ss %s, from which container %s takes variables", kind, name, c.Name))
			}
			for _, key := range static(&c, from.Prefix, keys) {
				found = append(found, fmt.Sprintf("container %s takes %s from %s %s (envFrom)", c.Name, from.Prefix+key, kind, name))
			}
		}
	}
	kept := status.PodOf(d.pod)
	switch {
	case len(found) > 0:
		// Never a command that takes the key from the source: others may need it.
		why, owner := list(found)+"; AWS SDKs prefer them to the role", kept.Owner.String()
		if kept.Owner.Kind == "pod" {
			file := kept.Name + ".yaml"
			return failed(why, "remove the variables and that source from the container, or set them empty there, which counts before envFrom, in what makes the Pod; "+
				"or save it, change it there, and make it anew: "+d.Kubectl.In(kept.Namespace, "get pod", kept.Name, "-o yaml >", file)+", then "+
				d.Kubectl.Command("replace --force -f", file), "")
		}
		return failed(why, "remove the variables and that source from the container in "+owner+", or set them empty there, which counts before envFrom",
			d.editOwner(&kept))
	case len(hidden) > 0:
		return skipped("%s", list(hidden))
	}
	return fine("none in env, nor in envFrom")
}

// literal are the static credentials that a container sets itself.
func literal(c *corev1.Container) (names []string) {
	for _, e := range c.Env {
		if slices.Contains(v1alpha1.StaticCredentialEnv(), e.Name) && (e.Value != "" || e.ValueFrom != nil) {
			names = append(names, e.Name)
		}
	}
	return names
}

// static are those keys that become static credentials. A variable that the container
// sets itself counts before envFrom.
func static(c *corev1.Container, prefix string, keys []string) (all []string) {
	for _, key := range keys {
		name := prefix + key
		if slices.Contains(v1alpha1.StaticCredentialEnv(), name) && !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name }) {
			all = append(all, key)
		}
	}
	return all
}
