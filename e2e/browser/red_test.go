package browser

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
	"github.com/bucket-access/bucket-access-webhook/pkg/diagnosis"
	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// fault is one set-up that is broken on purpose, and what the page makes of it.
type fault struct {
	breaks func(*testing.T, *access)                // in Account B; may be nil
	start  func(*testing.T, *access, *lab.PodStart) // in the Pod; may be nil

	link, check string // that are red
	cause       diagnosis.Cause
	headline    string
	found, fix  string // are said in the sentences
	// service and operation whose answer is shown; empty where nobody was asked.
	service, operation string
}

var faults = map[string]fault{
	"the token of another ServiceAccount": {
		link: "token", check: "token", cause: diagnosis.WrongSubject,
		headline: "ServiceAccount", found: ":other", fix: "serviceAccount",
		start: func(t *testing.T, a *access, start *lab.PodStart) {
			t.Helper()
			token, err := cluster.Token(testContext(t), a.pod(t, "other", "other", nil), "sts.amazonaws.com", 600)
			must(t, err)
			start.Token = &token
		},
	},
	"a static key in the environment": {
		link: "token", check: "environment", cause: diagnosis.StaticCredentials,
		headline: "Static credentials", found: "AWS_ACCESS_KEY_ID", fix: "Remove the variables",
		start: func(_ *testing.T, _ *access, start *lab.PodStart) {
			start.SetEnv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
			start.SetEnv("AWS_SECRET_ACCESS_KEY", "example")
		},
	},
	// AWS answers AccessDenied here, which is RoleNotTrusting; the emulator's answer says less.
	"a role that trusts another subject": {
		link: "sts", check: "session", cause: diagnosis.TokenRefused,
		headline: "STS", found: "STS says", fix: "trust policy",
		service: "STS", operation: "AssumeRoleWithWebIdentity",
		breaks: func(t *testing.T, a *access) {
			t.Helper()
			trust, err := a.policy.TrustPolicy(cluster.Issuer)
			must(t, err)
			host := iam.ProviderHost(cluster.Issuer)
			trust.Statement[0].Condition = iam.Condition{"StringEquals": {
				host + ":aud": {"sts.amazonaws.com"}, host + ":sub": {"system:serviceaccount:elsewhere:api-sa"},
			}}
			must(t, accountB.SetTrust(testContext(t), a.policy, trust))
		},
	},
	// The emulator's STS is that of one region.
	"another region": {
		link: "role", check: "identity", cause: diagnosis.WrongSTSEndpoint,
		headline: "region", found: "valid region", fix: "endpoints.sts",
		service: "STS", operation: "GetCallerIdentity",
		start: func(_ *testing.T, _ *access, start *lab.PodStart) {
			start.SetEnv("AWS_REGION", "eu-west-1")
			start.SetEnv("AWS_DEFAULT_REGION", "eu-west-1")
		},
	},
	"an explicit Deny in the bucket's policy": {
		link: "bucket", check: "bucket", cause: diagnosis.ExplicitDenyBucketPolicy,
		headline: "bucket's policy", found: "explicit deny in a resource-based policy", fix: "Find the Deny in the bucket policy",
		service: "S3", operation: "ListObjectsV2",
		breaks: func(t *testing.T, a *access) { t.Helper(); setDeny(t, a.policy, true) },
	},
}

// setDeny denies the role everything in the bucket's own policy, or takes that away.
func setDeny(t *testing.T, p *policy.Policy, deny bool) {
	t.Helper()
	document := iam.Document{Version: iam.PolicyVersion}
	if deny {
		grant := p.Grant()
		document.Statement = iam.Statements{{
			Effect: iam.Deny, Principal: iam.Principal{"AWS": {grant.Role.String()}}, Action: iam.Values{"s3:*"},
			Resource: iam.Values{"arn:aws:s3:::" + p.Bucket, "arn:aws:s3:::" + p.Bucket + "/*"},
		}}
	}
	must(t, accountB.SetBucketPolicy(testContext(t), p.Bucket, document))
}

// expected are the states of the chain whose red link is that.
func expected(red string) map[string]string {
	states, state := map[string]string{}, "OK"
	for _, link := range []string{"token", "sts", "role", "bucket"} {
		if states[link] = state; link == red {
			states[link], state = "Fail", "Skipped"
		}
	}
	return states
}

// TestARedPageNamesTheLink, the cause and what to do, and shows the real STS's or S3's
// answer as it came. What stands behind the link is not guessed.
func TestARedPageNamesTheLink(t *testing.T) {
	t.Parallel()
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccess(t, map[string]string{"config.json": "{}"})
			if f.breaks != nil {
				f.breaks(t, a)
			}
			r := a.reader(t, func(start *lab.PodStart) {
				if f.start != nil {
					f.start(t, a, start)
				}
			})
			p := newTab(t, "http://"+r.Address)
			p.allowRefusals() // of the listing
			p.visit("")
			p.ready("false")
			p.shows("#problem")
			f.isShown(p)
			p.picture("red-"+f.link+"-"+f.check, "")
		})
	}
}

func (f *fault) isShown(p *tab) {
	p.t.Helper()
	if diff := cmp.Diff(expected(f.link), p.links()); diff != "" {
		p.t.Error(diff)
	}
	red := eval[[]string](p, "[...document.querySelectorAll('#checks [data-state=Fail]')].map((c) => c.dataset.check)")
	if !slices.Equal(red, []string{f.check}) {
		p.t.Errorf("the red check is %v, want %s", red, f.check)
	}
	if cause := p.text("#cause"); cause != string(f.cause) {
		p.t.Errorf("the cause is %q, want %v", cause, f.cause)
	}
	for selector, part := range map[string]string{"#headline": f.headline, "#detail": f.found, "#fix": f.fix} {
		if text := p.text(selector); text == "" || !strings.Contains(text, part) {
			p.t.Errorf("%s is %q, and does not say %q", selector, text, part)
		}
	}
	if f.service == "" {
		if p.text("#answer") != "" {
			p.t.Error("an answer is shown, and nobody was asked")
		}
		return
	}
	if p.text("#answer [data-part=code]") != "" {
		p.t.Error("the raw answer is not folded away")
	}
	p.click("#answer summary")
	for part, want := range map[string]string{"service": f.service, "operation": f.operation, "status": "40", "code": "", "message": ""} {
		if text := p.text("#answer [data-part=" + part + "]"); text == "" || !strings.Contains(text, want) {
			p.t.Errorf("the answer's %s is %q, want %q", part, text, want)
		}
	}
}

// TestAReaderThatIsGoneIsUnknown: what was green is not said to be red, nor still green.
func TestAReaderThatIsGoneIsUnknown(t *testing.T) {
	t.Parallel()
	r := newAccess(t, nil).reader(t, nil)
	p := open(t, r, "")
	p.ready("true")
	p.lists(0)
	p.allowRefusals()
	r.Stop()
	p.ready("unknown")
	if diff := cmp.Diff(map[string]string{"token": "Skipped", "sts": "Skipped", "role": "Skipped", "bucket": "Skipped"}, p.links()); diff != "" {
		t.Error(diff)
	}
	if text := p.text("#headline"); text != "The reader does not answer" {
		t.Errorf("the headline is %q", text)
	}
	p.picture("unknown", "")
}
