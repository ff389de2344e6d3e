package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

func policyTable(report *status.Report, wide bool) *table {
	t := &table{header: []string{"POLICY", "BUCKET", "SAS", "PODS", "OUTDATED", "UNINJECTED", "REVOKED", "CONFLICTS"}, elastic: []int{0, 1}}
	if wide {
		t.header = append(t.header, "STATE", "ACCOUNT", "REGION", "PREFIX", "ROLE", "SUBJECTS")
	}
	for i := range report.Policies {
		p := &report.Policies[i]
		cells := []any{
			orDash(p.Name), orDash(p.Bucket), len(p.ServiceAccounts), p.Pods, status.Count(p.Outdated), status.Count(p.Uninjected), status.Count(p.Revoked),
			len(p.Conflicts),
		}
		if wide {
			cells = append(cells, p.State, orDash(p.Account), orDash(p.Region), orDash(p.Prefix), orDash(p.Role), orDash(strings.Join(p.Subjects, ",")))
		}
		t.add(cells...)
	}
	return t
}

func accessTable(list []status.Access, wide bool) *table {
	t := &table{header: []string{"BUCKET", "PREFIX", "SERVICEACCOUNT", "USE", "PODS", "POLICY"}, elastic: []int{0, 1, 2, 5}}
	if wide {
		t.header = append(t.header, "ROLE", "ACTIONS")
	}
	for i := range list {
		a := &list[i]
		cells := []any{a.Bucket, orDash(a.Prefix), a.ServiceAccount, a.Use, a.Pods, a.Policy}
		if wide {
			cells = append(cells, a.Role, strings.Join(a.Actions, ","))
		}
		t.add(cells...)
	}
	return t
}

// shownHints bounds what a person reads at once; -o json has them all.
const shownHints = 20

// hint is a sentence, what to do, and the command that does it or that shows more.
type hint struct{ text, fix, command, look string }

// hintsOf says of each Pod that is not as it should be what mends it; first of what concerns
// a whole policy, as the list is cut.
func hintsOf(report *status.Report, kubectl status.Kubectl) (hints []hint) {
	for i := range report.Policies {
		switch p := &report.Policies[i]; p.State {
		case status.Valid:
		case status.Missing:
			hints = append(hints, hint{text: fmt.Sprintf("policy %q is asked for and does not exist", p.Name)})
		default:
			hints = append(hints, hint{text: fmt.Sprintf("policy %s: %s", p.Name, p.State), look: kubectl.BucketAccess("doctor", p.Name)})
		}
	}
	for _, problem := range report.Problems {
		hints = append(hints, hint{text: problem})
	}
	for i := range report.Policies {
		p := &report.Policies[i]
		for _, kind := range []struct {
			word   string
			groups []status.Group
		}{{"outdated", p.Outdated}, {"uninjected", p.Uninjected}, {"revoked", p.Revoked}} {
			for _, g := range kind.groups {
				h := hint{text: fmt.Sprintf("%s: %d %s of %s in namespace %s", p.Name, g.Pods, kind.word, g.Owner, g.Namespace), command: g.Command}
				if g.Fix != status.MakeAnew { // which the command says itself
					h.fix = g.Fix
				}
				hints = append(hints, h)
			}
		}
		for _, conflict := range p.Conflicts {
			hints = append(hints, hint{text: fmt.Sprintf("%s: conflict of %s", p.Name, conflict)})
		}
	}
	return hints
}

func printHints(s *screen, hints []hint, unread []string) {
	if len(hints) > 0 {
		fmt.Fprintln(s)
	}
	for i, hint := range hints {
		if i == shownHints {
			fmt.Fprintf(s, "… and %d more; -o json shows them\n", len(hints)-shownHints)
			break
		}
		fmt.Fprintln(s, s.wrap(hint.text, 2))
		if hint.fix != "" {
			fmt.Fprintln(s, "  "+s.wrap("what to do: "+hint.fix, 2))
		}
		if hint.command != "" {
			fmt.Fprintln(s, "  $ "+hint.command)
		}
		if hint.look != "" {
			fmt.Fprintln(s, "  look: "+hint.look)
		}
	}
	printUnread(s, unread)
}

// printNamespace says what is counted, where that is not everything.
func printNamespace(s *screen, namespace string) {
	if namespace != "" {
		fmt.Fprintln(s, s.wrap("ServiceAccounts and Pods are those in namespace "+namespace+"; -A for all", 0))
	}
}

func printUnread(s *screen, unread []string) {
	for _, what := range unread {
		fmt.Fprintln(s, s.wrap("not counted: "+what, 2))
	}
}

// printObject prints JSON or YAML.
func printObject(w io.Writer, format string, object any) error {
	text, err := json.MarshalIndent(object, "", "  ")
	if err == nil && format == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, strings.TrimSuffix(string(text), "\n"))
	return err
}

// printCSV prints a table as RFC 4180 has it, with the header in lower case.
func printCSV(w io.Writer, t *table) error {
	out := csv.NewWriter(w)
	header := make([]string, len(t.header))
	for i, name := range t.header {
		header[i] = strings.ToLower(name)
	}
	rows := [][]string{header}
	for _, row := range t.rows {
		cells := slices.Clone(row)
		for i, cell := range cells {
			if cell == nothing {
				cells[i] = ""
			}
		}
		rows = append(rows, cells)
	}
	return out.WriteAll(rows) // which flushes
}
