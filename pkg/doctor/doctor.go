package doctor

import (
	"context"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
	"github.com/bucket-access/bucket-access-webhook/pkg/installation"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// Doctor looks at one target.
type Doctor struct {
	Client  client.Client
	Clients kubernetes.Interface
	// Own is the webhook's own namespace, Configuration the name of its webhook configurations.
	Own, Configuration string
	Target             Target
	// Version is the plugin's.
	Version string
	// Live lets it ask for a token and AWS for access.
	Live bool
	// Key is an object that a live check reads; empty is the policy's probe key, else the first listed.
	Key string
	// Kubectl makes the commands that are printed.
	Kubectl status.Kubectl
	// HTTP reads the issuer's documents as everybody does; nil is a client of its own.
	HTTP *http.Client
	// Begun is called with the ID of a check that takes its time from now, Ended after
	// each check; nil is nobody.
	Begun func(id string)
	Ended func(check *Check)

	kubernetes   *version.Info // of the API server
	installation *installation.Installation
	answered     bool // the API server did
	facts        *status.Facts
	pod          *corev1.Pod
	account      inject.ServiceAccountView
	policy       *policy.Policy // that counts for the target
	live         session
}

// step is one check.
type step struct {
	id, title string
	run       func(context.Context) result
}

// serverCheck is the check that all others rest on.
const serverCheck = "server"

// patience bounds one check: something that hangs is no answer.
const patience = 40 * time.Second

// steps are the checks of a target, in the order in which one rests on another.
func (d *Doctor) steps() []step {
	all := []step{
		{serverCheck, "The API server answers and is new enough", d.server},
		{"configuration", "The webhook configurations are there and complete", d.configurations},
		{"replicas", "Replicas of the webhook are ready", d.replicas},
		{"call", "The API server calls the webhook and trusts its certificate", d.call},
		{"backstops", "Pods can't go past the webhook", d.backstops},
		{"order", "Other webhooks do not undo it", d.order},
		{"policies", "Policies are valid", d.policies},
	}
	issuer := step{"issuer", "The cluster's token issuer is the policy's, and can be reached", d.issuer}
	label := step{"label", "A label asks for a policy that applies", d.label}
	account := step{"serviceaccount", "The ServiceAccount is as the policy says", d.serviceAccount}
	pods := step{"pods", "Pods are injected and up to date", d.pods}
	switch d.Target.Kind {
	case Pod:
		all = append(all, label, account, step{"pod", "The Pod is injected and up to date", d.onePod},
			step{"credentials", "No static credentials are in the way", d.credentials}, issuer)
	case ServiceAccount:
		all = append(all, label, account, issuer, pods)
	case Namespace:
		all = append(all, step{"label", "The Namespace's label is of a policy", d.namespaceLabel}, issuer, pods)
	case Policy, Everything: // another issuer refuses all Pods
		all = append(all, issuer, pods)
	}
	return append(all, d.liveSteps()...)
}

// Examine walks the chain. After a check that failed no other is made: what rests on a
// broken link says nothing.
func (d *Doctor) Examine(ctx context.Context) *Report {
	d.installation = &installation.Installation{Client: d.Clients, Configuration: d.Configuration, Kubectl: d.Kubectl.Command()}
	report := &Report{Target: d.Target.String()}
	broken, failed := "", false
	for _, s := range d.steps() {
		check := result{State: Skipped, Why: notLooked + broken + " failed"}
		if !failed {
			check = d.take(ctx, s)
		}
		if ctx.Err() != nil { // what it says then is of the interruption
			report.Looked = false
			return report
		}
		check.ID, check.Title = s.id, s.title
		if check.State == Fail {
			broken, failed = s.id, true
		}
		// That the API server answers says nothing of the webhook.
		if d.answered && check.State != Skipped && (s.id != serverCheck || failed) {
			report.Looked = true
		}
		report.Checks = append(report.Checks, check)
		if d.Ended != nil {
			d.Ended(&check)
		}
	}
	report.Healthy = report.Looked && !failed
	return report
}

// take makes one check.
func (d *Doctor) take(ctx context.Context, s step) result {
	if d.Begun != nil {
		d.Begun(s.id)
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.run(limited)
}
