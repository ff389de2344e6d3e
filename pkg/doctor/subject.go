package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
	"github.com/bucket-access/bucket-access-webhook/pkg/watch"
)

// load reads the target itself. What is wrong is returned; the zero result says nothing is.
func (d *Doctor) load(ctx context.Context) result {
	name := types.NamespacedName{Namespace: d.Target.Namespace, Name: d.Target.Name}
	if d.Target.Kind == Pod {
		d.pod = &corev1.Pod{}
		if err := d.Client.Get(ctx, name, d.pod); err != nil {
			return unread(err, "get pods "+d.Target.Name+" in namespace "+d.Target.Namespace)
		}
		name.Name = d.pod.Spec.ServiceAccountName
	}
	object := watch.ServiceAccount()
	switch err := d.Client.Get(ctx, name, object); {
	case apierrors.IsNotFound(err):
		return failed("the ServiceAccount "+name.String()+" does not exist", "make it, or use another",
			d.Kubectl.In(name.Namespace, "create serviceaccount", name.Name))
	case err != nil:
		return unread(err, "get serviceaccounts "+name.Name+" in namespace "+name.Namespace)
	}
	d.account = watch.AccountView(object)
	d.facts.Accounts[name] = d.account
	return result{}
}

// verdict is for a Pod of the target.
func (d *Doctor) verdict() decide.Verdict {
	if d.pod != nil {
		_, _, verdict := d.facts.Judge(ptr.To(status.PodOf(d.pod)))
		return verdict
	}
	// A Pod of the ServiceAccount that says nothing itself.
	_, _, verdict := d.facts.Judge(&status.Pod{Namespace: d.account.Namespace, ServiceAccount: d.account.Name})
	return verdict
}

// label resolves which label counts, and why its policy applies or not. A Pod that gets
// nothing any more may still carry what it was given.
func (d *Doctor) label(ctx context.Context) result {
	check := d.asked(ctx)
	if d.pod == nil || d.facts == nil || check.State != Fail && check.State != Warn {
		return check
	}
	kept := status.PodOf(d.pod)
	if kind, carried, _ := d.facts.Judge(&kept); kind == status.Revoked {
		check.Why += "; the Pod still carries the access of policy " + carried
		check.Fix += "; or, to take it away: " + d.facts.Withdraw(&kept).Command
	}
	return check
}

func (d *Doctor) asked(ctx context.Context) result {
	if d.facts == nil {
		return skipped("the policies could not be read")
	}
	if slices.Contains(d.facts.Excluded, d.Target.Namespace) {
		return failed("the webhook leaves namespace "+d.Target.Namespace+" alone", "use another namespace, or take it out of excludedNamespaces of the chart", "")
	}
	if check := d.load(ctx); check.State != "" {
		return check
	}
	verdict := d.verdict()
	d.policy = verdict.Policy
	switch {
	case verdict.Kind == decide.Inject:
		return fine("the label on the %s names policy %s, which lists %s/%s", where(verdict.Source), verdict.PolicyName, d.account.Namespace, d.account.Name)
	case verdict.Reason == decide.ReasonOptedOut:
		return warned("the label on the "+where(verdict.Source)+" is none, which declines access", "remove it if access is wanted", d.unlabel(verdict.Source))
	case verdict.Reason == decide.ReasonMirrorPod:
		return warned("a static Pod is never given access: it can't have a ServiceAccount's token", "run it as a Deployment or a DaemonSet", "")
	case verdict.Reason == decide.ReasonNotRequested:
		return d.notRequested()
	}
	message := strings.TrimPrefix(verdict.Message, "bucket-access: ")
	fix, command := d.mendLabel(verdict)
	return failed(message, fix, command)
}

func where(source decide.Source) string {
	return map[decide.Source]string{decide.FromPod: "Pod", decide.FromServiceAccount: "ServiceAccount", decide.FromNamespace: "Namespace"}[source]
}

func (d *Doctor) notRequested() result {
	account := types.NamespacedName{Namespace: d.account.Namespace, Name: d.account.Name}
	why := fmt.Sprintf("neither the Pod, nor the ServiceAccount %s, nor the Namespace carries the label %s", account, v1alpha1.LabelPolicy)
	names := d.allowing(account)
	if len(names) == 0 {
		return failed(why, "no policy lists the ServiceAccount: ask the platform team to add it to the subjects of one, then set the label", "")
	}
	return failed(why, "set the label to a policy that lists the ServiceAccount: "+list(names), d.setLabel(decide.FromServiceAccount, names[0]))
}

// mendLabel is the way out of a refusal.
func (d *Doctor) mendLabel(verdict decide.Verdict) (fix, command string) {
	account := types.NamespacedName{Namespace: d.account.Namespace, Name: d.account.Name}
	entry, known := d.facts.Policies.Lookup(verdict.PolicyName)
	edit := ""
	if known {
		edit = d.editConfigMap(entry.Source)
	}
	switch verdict.Reason {
	case decide.ReasonUnknownPolicy:
		if near := d.nearest(verdict.PolicyName); near != "" {
			return fmt.Sprintf("correct the label: there is a policy %q", near), d.setLabel(verdict.Source, near)
		}
		if names := d.allowing(account); len(names) > 0 {
			return "name a policy that lists the ServiceAccount: " + list(names), d.setLabel(verdict.Source, names[0])
		}
		return "ask the platform team to add the policy", ""
	case decide.ReasonSubjectNotListed:
		return fmt.Sprintf("use a ServiceAccount that is listed, or add {namespace: %s, serviceAccount: %s} to the subjects of policy %s",
			account.Namespace, account.Name, verdict.PolicyName), edit
	case decide.ReasonIssuerMismatch:
		return "set the policy's issuer to " + d.facts.Cluster.Issuer + ", or remove it", edit
	default:
		return "correct the policy", edit
	}
}

// setLabel is the command that sets the label where it counts.
func (d *Doctor) setLabel(source decide.Source, policy string) string {
	switch source {
	case decide.FromNamespace:
		return d.Kubectl.Command("label namespace", d.Target.Namespace, v1alpha1.LabelPolicy+"="+policy, "--overwrite")
	case decide.FromPod:
		return d.changePod(v1alpha1.LabelPolicy+"="+policy+" --overwrite", fmt.Sprintf("%q", policy))
	default:
		return d.Kubectl.In(d.account.Namespace, "label serviceaccount", d.account.Name, v1alpha1.LabelPolicy+"="+policy, "--overwrite")
	}
}

// unlabel is the command that takes the label away.
func (d *Doctor) unlabel(source decide.Source) string {
	switch source {
	case decide.FromPod:
		return d.changePod(v1alpha1.LabelPolicy+"-", "null")
	case decide.FromServiceAccount:
		return d.Kubectl.In(d.account.Namespace, "label serviceaccount", d.account.Name, v1alpha1.LabelPolicy+"-")
	default: // a Namespace can't decline
		return ""
	}
}

// changePod changes the label in the template that Pods are made from, or in a Pod that
// nobody makes, which is made anew: a running Pod's label can't be changed.
func (d *Doctor) changePod(edit, value string) string {
	kept := status.PodOf(d.pod)
	switch kept.Owner.Kind {
	case "deployment", "statefulset", "daemonset":
		return d.Kubectl.SetTemplateLabel(&kept, value)
	case "pod":
		return d.Kubectl.Replace(&kept, "label --local -f - "+edit).Command
	}
	return ""
}

// namespaceLabel looks at a Namespace's own label.
func (d *Doctor) namespaceLabel(ctx context.Context) result {
	if d.facts == nil {
		return skipped("the policies could not be read")
	}
	object := watch.Namespace()
	if err := d.Client.Get(ctx, client.ObjectKey{Name: d.Target.Name}, object); err != nil {
		return unread(err, "get namespaces "+d.Target.Name)
	}
	d.facts.Namespaces[object.Name] = decide.LabelOf(object.Labels, v1alpha1.LabelPolicy)
	label := d.facts.Namespaces[object.Name]
	switch _, known := d.facts.Policies.Lookup(label.Value); {
	case slices.Contains(d.facts.Excluded, object.Name):
		return failed("the webhook leaves namespace "+object.Name+" alone", "use another namespace, or take it out of excludedNamespaces of the chart", "")
	case !label.Set:
		return fine("it has none: Pods and ServiceAccounts ask by their own")
	case !known:
		near := d.nearest(label.Value)
		fix, command := "correct the label's value, or ask the platform team to add the policy", ""
		if near != "" {
			command = d.setLabel(decide.FromNamespace, near)
		}
		return failed(fmt.Sprintf("its label names policy %q, which does not exist; its Pods go through without access", label.Value), fix, command)
	}
	entry, _ := d.facts.Policies.Lookup(label.Value)
	d.policy = entry.Policy
	return fine("its label names policy %s", label.Value)
}

// serviceAccount compares what stands on it with what the policy says.
func (d *Doctor) serviceAccount(context.Context) result {
	if d.policy == nil {
		return skipped("no policy applies")
	}
	name := d.account.Namespace + "/" + d.account.Name
	if !d.account.Policy.Set {
		if role := d.account.Annotations[v1alpha1.EKSAnnotationRoleARN]; role != "" && role != d.policy.Role.String() {
			return warned(fmt.Sprintf("%s carries no label, and its own annotation names the role %s; Pods get the policy's, %s", name, role, d.policy.Role),
				"remove the annotation unless other Pods need it", d.annotate(v1alpha1.EKSAnnotationRoleARN+"-"))
		}
		return fine("%s carries no label, so nothing is written on it; its Pods don't need it", name)
	}
	outcome := inject.ServiceAccount(d.account, decide.ServiceAccount(d.account.Namespace, d.account.Name, d.account.Policy, d.facts.Policies, d.facts.Cluster))
	switch {
	case outcome.Kind == decide.Deny:
		var remove []string
		for _, key := range []string{v1alpha1.EKSAnnotationRoleARN, v1alpha1.EKSAnnotationAudience} {
			if strings.Contains(outcome.Message, "annotation "+key+" ") {
				remove = append(remove, key+"-")
			}
		}
		return failed(strings.TrimPrefix(outcome.Message, "bucket-access: "), "remove what the policy decides", d.annotate(remove...))
	case len(outcome.Annotations) > 0:
		var edits []string
		for _, key := range slices.Sorted(maps.Keys(outcome.Annotations)) {
			if key == v1alpha1.AnnotationManaged {
				continue
			}
			if edit := outcome.Annotations[key]; edit.Set {
				edits = append(edits, key+"="+edit.Value)
			} else {
				edits = append(edits, key+"-")
			}
		}
		if len(edits) == 0 { // only the record: any change makes the webhook write it
			edits = []string{v1alpha1.AnnotationManaged + "-"}
		}
		return failed(name+" is not as policy "+d.policy.Name+" says; it should have "+list(edits), "set the annotations", d.annotate(edits...))
	}
	return fine("%s is annotated with %s", name, d.policy.Role)
}

func (d *Doctor) annotate(edits ...string) string {
	if len(edits) == 0 {
		return ""
	}
	words := make([]string, len(edits))
	for i, edit := range edits {
		words[i] = word(edit)
	}
	return d.Kubectl.In(d.account.Namespace, "annotate serviceaccount", d.account.Name, "--overwrite", strings.Join(words, " "))
}
