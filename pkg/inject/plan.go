package inject

import (
	"fmt"
	"strconv"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// Plan is every edit that brings a Pod to what its policy asks for. The zero Plan
// changes nothing.
type Plan struct {
	Volume     VolumeEdit
	Containers []ContainerEdit
	Reader     ReaderEdit
	// Labels and Annotations to set; an absent value removes the key.
	Labels, Annotations []KeyEdit
}

// KeyEdit is what happens to one label or annotation.
type KeyEdit struct {
	Key string
	decide.Label
}

// ContainerEdit is what happens to one container.
type ContainerEdit struct {
	List  string // initContainers, containers or ephemeralContainers
	Index int
	Env   []EnvEdit
	Mount bool // append the token mount
	// Unmount is the index of the token mount to remove, plus one; 0 removes none.
	Unmount int
}

// Outcome is the answer for one Pod: the verdict, the plan where it is Inject (or
// a clean-up where it is Skip), and what the person should know.
type Outcome struct {
	decide.Verdict
	Plan     *Plan
	Warnings []Warning
}

// Pod works out what happens to a Pod that decide has judged.
func Pod(pod *PodView, verdict decide.Verdict, around Surroundings) Outcome {
	if verdict.Kind != decide.Inject {
		return untouched(pod, verdict)
	}
	found := &findings{}
	plan := plan(pod, verdict, around, found)
	if len(found.conflicts) > 0 {
		outcome := untouched(pod, verdict.Refuse(found.refusal()))
		takeBack(outcome.Plan, pod, verdict)
		return outcome
	}
	return Outcome{Verdict: verdict, Plan: plan, Warnings: found.warnings}
}

// untouched answers for a Pod that is not injected. A manifest copied from an
// injected Pod says of itself that it is; that is taken away.
func untouched(pod *PodView, verdict decide.Verdict) Outcome {
	outcome := Outcome{Verdict: verdict}
	if verdict.Kind != decide.Skip {
		return outcome
	}
	if verdict.Message != "" {
		outcome.Warnings = []Warning{{WarnRequestUnmet, verdict.Message}}
	}
	if pod.MirrorPod || (!pod.Injected.Set && !pod.HasStatus) {
		return outcome
	}
	outcome.Plan = &Plan{}
	if pod.Injected.Set {
		outcome.Plan.Labels = []KeyEdit{{Key: v1alpha1.LabelInjected}}
	}
	if pod.HasStatus {
		outcome.Plan.Annotations = []KeyEdit{{Key: v1alpha1.AnnotationStatus}}
	}
	return outcome
}

// planner is what one plan is made from.
type planner struct {
	pod      *PodView
	policy   *policy.Policy
	want     desired
	owner    ownership
	settings ReaderSettings
	env      *envReconciler
	found    *findings
}

func plan(pod *PodView, verdict decide.Verdict, around Surroundings, found *findings) *Plan {
	before, _ := ParseStatus(pod.Status)
	p := &planner{
		pod: pod, policy: verdict.Policy, owner: ownership{status: before, around: around}, settings: around.Reader, found: found,
		want: desire(verdict.Policy, pod, expiration(pod, verdict.Policy, around.ServiceAccount, found)),
	}
	p.env = &envReconciler{policy: p.policy, want: p.want, owner: p.owner, found: found, static: v1alpha1.StaticCredentialEnv()}
	result := &Plan{Volume: volume(pod, p.want, p.owner, found)}
	names := p.containers(result)
	podIdentity(pod, found)
	edit, record := p.reader()
	result.Reader = edit
	status := Status{
		Version: StatusVersion, Policy: verdict.PolicyName, Source: verdict.Source, ServiceAccount: pod.ServiceAccount, Hash: verdict.Policy.Hash,
		Containers: names, Audience: p.want.audience, ExpirationSeconds: p.want.expiration, Reader: record,
	}.with(p.want.record)
	result.note(pod, verdict.PolicyName, status)
	return result
}

// containers plans the edits of all containers that the annotations leave, and returns
// their names. The reader is not among them: it is made and replaced as a whole.
func (p *planner) containers(result *Plan) []string {
	chosen, warnings := selectContainers(p.pod)
	p.found.warnings = append(p.found.warnings, warnings...)
	names, reader := []string{}, p.readerAt()
	for _, list := range []struct {
		name       string
		containers []Container
		except     int
	}{{"initContainers", p.pod.InitContainers, reader}, {"containers", p.pod.Containers, -1}} {
		for i := range list.containers {
			c := &list.containers[i]
			if i == list.except || !chosen.selects(c.Name) {
				continue
			}
			names = append(names, c.Name)
			result.Containers = append(result.Containers, ContainerEdit{
				List: list.name, Index: i, Env: p.env.container(c), Mount: mount(c, p.found),
			})
		}
	}
	if len(names) == 0 {
		p.found.warn(WarnNoContainer, "the annotations leave no container of the Pod with bucket access")
	}
	return names
}

// note writes what the webhook leaves on a Pod, where it is not there already.
func (p *Plan) note(pod *PodView, policyName, status string) {
	if pod.Injected.Value != policyName {
		p.Labels = []KeyEdit{{v1alpha1.LabelInjected, decide.Label{Value: policyName, Set: true}}}
	}
	if pod.Status != status {
		p.Annotations = []KeyEdit{{v1alpha1.AnnotationStatus, decide.Label{Value: status, Set: true}}}
	}
}

// expiration is the Pod's annotation, else what a user wrote on the ServiceAccount,
// else the policy's: EKS's own order. Never clamped: a silent change of a lifetime
// is found out at the worst time.
func expiration(pod *PodView, p *policy.Policy, account ServiceAccountView, found *findings) int64 {
	written, where := pod.TokenExpiration, "the Pod"
	if !written.Set {
		written, where = account.userExpiration(), "the ServiceAccount"
	}
	if !written.Set {
		return p.TokenExpiration
	}
	seconds, err := strconv.ParseInt(written.Value, 10, 64)
	if err != nil || !policy.ValidTokenExpiration(seconds) {
		found.conflict(decide.ReasonInvalidExpiration, fmt.Sprintf(
			"annotation %s on %s is %.40q; write a whole number of seconds from %d to %d, or remove it for the policy's %d",
			v1alpha1.EKSAnnotationTokenExpiration, where, written.Value,
			v1alpha1.MinTokenExpirationSeconds, v1alpha1.MaxTokenExpirationSeconds, p.TokenExpiration))
	}
	return seconds
}

// podIdentity looks for EKS Pod Identity beside us. Web identity wins in the SDKs,
// so the policy's role counts; two identities in one Pod are rarely meant.
func podIdentity(pod *PodView, found *findings) {
	seen := pod.PodIdentity.Set
	for _, v := range pod.Volumes {
		seen = seen || v.Name == v1alpha1.PodIdentityVolume
	}
	for _, list := range [][]Container{pod.InitContainers, pod.Containers} {
		for i := range list {
			seen = seen || list[i].last(v1alpha1.EnvContainerCredentialsURI) >= 0
		}
	}
	if seen {
		found.warn(WarnPodIdentity, "EKS Pod Identity is set up for this Pod too; AWS SDKs prefer the role of the bucket policy")
	}
}
