package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/bucket-access/bucket-access-webhook/pkg/doctor"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

var examined = &doctor.Report{Target: "pod default/app", Checks: []doctor.Check{
	{ID: "server", State: doctor.OK, Why: "Kubernetes v1.37.2; plugin v1.2.3"},
	{ID: "call", State: doctor.Skipped, Why: "no right to create pods in namespace default (by server-side dry run; nothing is stored)"},
	{
		ID: "order", State: doctor.Warn, Why: "EKS's own webhook is not called again for containers that later webhooks add; ours is, and gives them all",
		Fix: "nothing must be done; EKS manages that configuration",
	},
	{
		ID: "pod", State: doctor.Fail, Why: `the Pod carries an older version of policy orders: prefix "" instead of "exports/2026/"; a running Pod is never changed`,
		Fix: "make it anew", Command: "kubectl -n default get pod app-with-a-rather-long-name-6d5f7-x2x9z -o json > app.json && kubectl replace --force -f app.json",
		Look: "kubectl bucket-access status -A",
	},
	{ID: "credentials", State: doctor.Skipped, Why: "not looked at, because pod failed"},
	{ID: "issuer", State: doctor.Skipped, Why: "not looked at, because pod failed"},
}}

var counted = &status.Report{
	Policies: []status.Policy{
		{
			Name: "orders", State: status.Valid, Bucket: "orders-data", Region: "eu-west-1", Account: "222222222222", Role: "arn:aws:iam::222222222222:role/s3-reader-role",
			Subjects: []string{"default/api-sa", "team-*/batch"}, ServiceAccounts: []string{"default/api-sa"}, Pods: 12,
			Outdated: []status.Group{{
				Namespace: "default", Owner: status.Owner{Kind: "deployment", Name: "api"}, Pods: 3, Mend: status.Mend{Fix: status.MakeAnew, Command: "kubectl -n default rollout restart deployment/api"},
			}},
			Revoked: []status.Group{{
				Namespace: "default", Owner: status.Owner{Kind: "pod", Name: "alone"}, Pods: 1,
				Mend: status.Mend{Fix: "delete the Pod; where access must end at once, take the ServiceAccount out of the role's trust policy too", Command: "kubectl -n default delete pod alone"},
			}},
			Conflicts: []string{"serviceaccount default/worker: IdentityConflict"},
		},
		{Name: "reports-of-the-whole-company", State: status.LastGood, Bucket: "reports-of-the-whole-company-eu-west-1-222222222222", ServiceAccounts: []string{"a/b"}},
		{Name: "ordres", State: status.Missing, Conflicts: []string{"pod default/typo: UnknownPolicy"}},
	},
	Unread: []string{"no right to list pods"},
}

var reached = []status.Access{
	{
		Bucket: "orders-data", Policy: "orders", ServiceAccount: "default/api-sa", Use: status.InUse, Pods: 12, Role: "arn:aws:iam::222222222222:role/s3-reader-role",
		Actions: []string{"s3:GetObject", "s3:ListBucket"},
	},
	{Bucket: "orders-data", Prefix: "exports/", Policy: "exports", ServiceAccount: "team-*/batch", Use: status.Pattern},
}

// TestOutputIsAsItWasSeen holds what a terminal of 80 columns and a pipe show.
func TestOutputIsAsItWasSeen(t *testing.T) {
	for name, show := range map[string]func(*screen){
		"doctor": func(s *screen) {
			w := newWalk(s, examined.Target)
			for i := range examined.Checks {
				w.print(&examined.Checks[i])
			}
			w.end()
		},
		"status": func(s *screen) {
			policyTable(counted, false).print(s)
			printHints(s, hintsOf(counted, status.Kubectl{}), counted.Unread)
			printNamespace(s, "default")
		},
		"wide":    func(s *screen) { policyTable(counted, true).print(s) },
		"who-can": func(s *screen) { accessTable(reached, false).print(s) },
		"csv": func(s *screen) {
			if err := printCSV(s, accessTable(reached, true)); err != nil {
				t.Error(err)
			}
		},
		"yaml": func(s *screen) {
			if err := printObject(s, "yaml", examined); err != nil {
				t.Error(err)
			}
		},
	} {
		for where, s := range map[string]*screen{"terminal": {terminal: terminal{width: 80}}, "pipe": {}} {
			t.Run(name+" "+where, func(t *testing.T) {
				var out bytes.Buffer
				s.Writer = &out
				show(s)
				path := filepath.Join("testdata", name+"."+where+".txt")
				if *update {
					if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), out.String()); diff != "" {
					t.Error(diff)
				}
				for line := range strings.Lines(out.String()) {
					wide := name == "wide" || name == "csv" || strings.HasPrefix(name, "yaml") || strings.Contains(line, "kubectl ")
					if where == "terminal" && !wide && utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
						t.Errorf("wider than the terminal: %s", line)
					}
				}
			})
		}
	}
}

// TestWhatConcernsAWholePolicyIsSaidFirst: the list of hints is cut.
func TestWhatConcernsAWholePolicyIsSaidFirst(t *testing.T) {
	report := &status.Report{Problems: []string{"no policy in data[x]"}}
	for i := range 2 * shownHints {
		report.Policies = append(report.Policies, status.Policy{Name: fmt.Sprintf("p%02d", i), State: status.Valid, Outdated: []status.Group{{Pods: 1}}})
	}
	report.Policies = append(report.Policies, status.Policy{Name: "zz", State: status.Missing}, status.Policy{Name: "zzz", State: status.LastGood})
	var out bytes.Buffer
	printHints(&screen{Writer: &out}, hintsOf(report, status.Kubectl{}), nil)
	said := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range []string{`policy "zz" is asked for`, "policy zzz: ", "kubectl bucket-access doctor zzz", "no policy in data[x]", "p00: 1 outdated"} {
		if !strings.Contains(said[i], want) {
			t.Errorf("line %d is %q, want %q", i, said[i], want)
		}
	}
	if last := said[len(said)-1]; last != "… and 23 more; -o json shows them" {
		t.Error(last)
	}
}

// TestStatusRefusesWhatIsNoQuestion: before the cluster is asked.
func TestStatusRefusesWhatIsNoQuestion(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a format":                  {[]string{"status", "-o", "xml"}, "none of table, wide, json, yaml, csv"},
		"a ServiceAccount":          {[]string{"status", "--what-can", "api-sa"}, "is no namespace/name"},
		"two questions":             {[]string{"status", "--what-can", "a/b", "--who-can", "c"}, "ask one"},
		"a question about a policy": {[]string{"status", "orders", "--who-can", "c"}, `leave "orders" out`},
		"an interval":               {[]string{"status", "-w", "--interval", "1ms"}, "less than a second"},
		"doctor's format":           {[]string{"doctor", "-o", "wide"}, "none of table, json and yaml"},
		"two targets":               {[]string{"doctor", "pod/a", "pod/b"}, "accepts at most 1 arg"},
	} {
		t.Run(name, func(t *testing.T) {
			if code, _, stderr := plugin(t, "", test.args...); code != exitUsage || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
}
