package status

import (
	"fmt"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
)

// Mend says what to do; Command, where there is one, does it.
type Mend struct {
	Fix     string `json:"fix"`
	Command string `json:"command,omitempty"`
}

// MakeAnew is the whole fix where an owner replaces its Pods when it is restarted.
const MakeAnew = "make them anew"

// rolls says whether kubectl rollout restart replaces the owner's Pods.
func (o Owner) rolls() bool {
	return o.Kind == "deployment" || o.Kind == "statefulset" || o.Kind == "daemonset"
}

// anew says how the Pods of one owner are made anew, so that they are injected as they are
// to be now.
func (f *Facts) anew(pods []*Pod) Mend {
	p := pods[0]
	if verdict := decide.Pod(f.request(p), f.Policies, f.Cluster); verdict.Kind == decide.Deny {
		return Mend{Fix: fmt.Sprintf("made anew they would be refused (%s): mend that first", verdict.Reason)}
	}
	switch {
	case p.Owner.rolls():
		return Mend{MakeAnew, f.Kubectl.In(p.Namespace, "rollout restart", p.Owner.String())}
	case p.Owner.Kind == podKind:
		return f.Kubectl.Replace(p, "")
	}
	return Mend{"delete them: their owner makes others", f.deletion(pods)}
}

// Anew says how one Pod is made anew, with the others of its owner where one command does.
func (f *Facts) Anew(p *Pod) Mend { return f.anew([]*Pod{p}) }

func (f *Facts) deletion(pods []*Pod) string {
	names := make([]string, len(pods))
	for i, p := range pods {
		names[i] = p.Name
	}
	return f.Kubectl.In(pods[0].Namespace, "delete pod", strings.Join(names, " "))
}

// Replace makes a Pod anew that nobody else makes. It is deleted before it is made again,
// and that may be refused: so a copy is kept. Edit is a command of kubectl that changes the
// copy, such as label --local -f - x=y; empty changes nothing.
func (k Kubectl) Replace(p *Pod, edit string) Mend {
	file := p.Name + ".json"
	mend := Mend{Fix: "make it anew: it is deleted first, and " + file + " keeps a copy; if it is refused then, correct that file and repeat the second command"}
	steps := []string{k.In(p.Namespace, "get pod", p.Name, "-o json")}
	if edit != "" {
		steps = append(steps, k.Command(edit, "-o json"))
	}
	if p.Debugged {
		mend.Fix += ". The containers that kubectl debug added are left out: no Pod can be made with them"
		steps = append(steps, k.Command(`patch --local -f - --type=json -p '[{"op":"remove","path":"/spec/ephemeralContainers"}]' -o json`))
	}
	mend.Command = strings.Join(steps, " | ") + " > " + file + " && " + k.Command("replace --force -f", file)
	return mend
}

// early is said of revoked access: deleting a Pod does not take back what was copied from it.
const early = "; where access must end at once, take the ServiceAccount out of the role's trust policy too, " +
	"since STS trades the tokens of deleted Pods until they expire"

// withdraw says how the Pods of one owner lose an access that they may not have any more. A
// restart does not take it from them where new Pods are refused: then the rollout waits,
// and the old Pods keep what they have.
func (f *Facts) withdraw(pods []*Pod) Mend {
	p := pods[0]
	refused := decide.Pod(f.request(p), f.Policies, f.Cluster).Kind == decide.Deny
	switch {
	case p.Owner.Kind == podKind:
		return Mend{"delete the Pod" + early, f.deletion(pods)}
	case p.Owner.rolls() && !refused:
		return Mend{"make them anew: the new ones come without that access" + early, f.Kubectl.In(p.Namespace, "rollout restart", p.Owner.String())}
	case p.Owner.rolls():
		return Mend{"take away the label, which new Pods are refused for, and make them anew; or list the ServiceAccount again; " +
			"until then delete the Pods, a restart alone keeps them" + early, f.unlabel(p)}
	case refused:
		return Mend{"delete them; new ones are refused until the label is taken away from what makes them, or the ServiceAccount is listed again" + early,
			f.deletion(pods)}
	}
	return Mend{"delete them: new ones come without that access" + early, f.deletion(pods)}
}

// Withdraw says how one Pod loses an access that it may not have any more.
func (f *Facts) Withdraw(p *Pod) Mend { return f.withdraw([]*Pod{p}) }

// unlabel takes away the labels that the Pod's successors are refused for, and replaces the Pods.
func (f *Facts) unlabel(p *Pod) string {
	var steps []string
	without := *p
	without.OnPod = decide.Label{}
	if decide.Pod(f.request(&without), f.Policies, f.Cluster).Kind == decide.Deny { // by the ServiceAccount's, then
		steps = append(steps, f.Kubectl.In(p.Namespace, "label serviceaccount", p.ServiceAccount, v1alpha1.LabelPolicy+"-"))
	}
	if p.OnPod.Set {
		steps = append(steps, f.Kubectl.SetTemplateLabel(p, "null"))
	} else {
		steps = append(steps, f.Kubectl.In(p.Namespace, "rollout restart", p.Owner.String()))
	}
	return strings.Join(steps, " && ")
}

// SetTemplateLabel sets the label in the template that an owner's Pods are made from, which
// makes them anew. The value is JSON: null takes the label away.
func (k Kubectl) SetTemplateLabel(p *Pod, value string) string {
	return k.In(p.Namespace, "patch", p.Owner.Kind, p.Owner.Name,
		fmt.Sprintf(`-p '{"spec":{"template":{"metadata":{"labels":{"%s":%s}}}}}'`, v1alpha1.LabelPolicy, value))
}
