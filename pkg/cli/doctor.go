package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bucket-access/bucket-access-webhook/pkg/doctor"
	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// doctorOptions are the flags of doctor.
type doctorOptions struct {
	place

	live        bool
	key, output string
}

const doctorExample = `  kubectl bucket-access doctor                          # the installation, and all that uses it
  kubectl bucket-access doctor pod/app -n default       # why has this Pod no access?
  kubectl bucket-access doctor sa/api-sa -n default --live
  kubectl bucket-access doctor orders --live --key=config.json`

const doctorLong = `doctor walks the chain from the API server to the object in the bucket and stops
at the first link that fails. Each check is OK, Warn, Fail or Skipped, with why,
and with the command that mends it where there is one. It reads only: a Pod is
tried by server-side dry run, of Secrets the names of keys are read and no
values, and tokens and keys are never shown.

Without --live nothing leaves the cluster but a request for the issuer's public
document. With --live a token of the ServiceAccount is asked for (10 minutes), and
traded with STS for a session that lists and reads as a Pod would. Your own AWS
credentials, where there are any, are used for iam:GetOpenIDConnectProvider and
iam:GetRole, for sts:GetCallerIdentity where those find nothing (is this the
right account?), and for nothing else.

The exit code is 1 when a check failed, and 2 when it could not look: the API server
does not answer, or there is no right to look at anything.`

func newDoctor(e *environment) *cobra.Command {
	o := &doctorOptions{}
	command := &cobra.Command{
		Use: "doctor [pod/NAME|sa/NAME|ns/NAME|POLICY]", Short: "Find the first broken link between a Pod and its bucket",
		Long: doctorLong, Example: doctorExample, Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "table", "json", "yaml"}, o.output) {
				return fmt.Errorf("--output %q is none of table, json and yaml", o.output)
			}
			return e.doctor(command.Context(), o, kubectl(command), strings.Join(args, ""))
		},
	}
	f := command.Flags()
	o.bind(f)
	f.BoolVar(&o.live, "live", false, "ask for a token, and AWS for access with it")
	f.StringVar(&o.key, "key", "", "key of an object that --live reads; empty is the policy's reader.probeKey, else the first that is listed")
	f.StringVarP(&o.output, "output", "o", "table", "table, json or yaml")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(findingOutputs, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return command
}

func (e *environment) doctor(ctx context.Context, o *doctorOptions, commands status.Kubectl, argument string) error {
	c, err := e.connect()
	if err != nil {
		return err
	}
	target, err := doctor.ParseTarget(argument, c.namespace)
	if err != nil {
		return err
	}
	d := &doctor.Doctor{
		Client: c.client, Clients: c.clients, Own: o.own, Configuration: o.configuration, Target: target, Version: e.version, Live: o.live, Key: o.key,
		Kubectl: commands,
	}
	waiting := e.progress()
	d.Begun = func(id string) { waiting.after(unnoticed/5, "looking at "+id+" …") }
	d.Ended = func(*doctor.Check) { waiting.clear() }
	if o.output == "json" || o.output == "yaml" {
		report := d.Examine(ctx)
		if err := printObject(e.Out, o.output, report); err != nil {
			return err
		}
		return outcome(ctx, report)
	}
	walk := newWalk(e.screen(e.Out), d.Target.String())
	d.Ended = func(check *doctor.Check) {
		waiting.clear()
		walk.print(check)
	}
	report := d.Examine(ctx)
	waiting.clear()
	walk.end()
	return outcome(ctx, report)
}

// outcome of a walk decides the exit code.
func outcome(ctx context.Context, report *doctor.Report) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("could not look: it was interrupted")
	case !report.Looked && report.Checks[0].State == doctor.Fail:
		return errors.New("could not look: " + report.Checks[0].Why)
	case !report.Looked:
		return errors.New("could not look: there is no right to look at anything; the ClusterRole and the Role bucket-access-viewer have those that doctor uses")
	case !report.Healthy:
		return errFindings
	}
	return nil
}

// mark is how a state is shown: a symbol and a colour on a terminal, a word in a pipe.
type mark struct{ symbol, colour string }

var marks = map[doctor.State]mark{
	doctor.OK: {"✓", green}, doctor.Warn: {"!", yellow}, doctor.Fail: {"✗", red}, doctor.Skipped: {"-", grey},
}

func (s *screen) mark(state doctor.State) string {
	if !s.interactive() {
		return fmt.Sprintf("%-7s", state)
	}
	m := marks[state]
	return s.paint(m.colour, m.symbol)
}

// walk prints a check a line as it ends, and below what is not fine what mends it. What
// was not looked at after a failure is only counted.
type walk struct {
	*screen

	indent, unlooked int
	counts           map[doctor.State]int
}

func newWalk(s *screen, target string) *walk {
	w := &walk{screen: s, indent: len("Skipped "), counts: map[doctor.State]int{}}
	if s.interactive() {
		w.indent = 2
	}
	fmt.Fprintln(s, s.paint(bold, "Looking at "+target))
	return w
}

func (w *walk) print(check *doctor.Check) {
	w.counts[check.State]++
	if check.NotLooked() && w.interactive() {
		w.unlooked++
		return
	}
	fmt.Fprintln(w, w.mark(check.State)+" "+w.wrap(check.ID+": "+check.Why, w.indent))
	if check.State == doctor.OK {
		return
	}
	margin := strings.Repeat(" ", w.indent)
	if check.Fix != "" {
		fmt.Fprintln(w, margin+w.wrap("what to do: "+check.Fix, w.indent))
	}
	// Never broken into lines: they are to be copied.
	if check.Command != "" {
		fmt.Fprintln(w, margin+"$ "+check.Command)
	}
	if check.Look != "" {
		fmt.Fprintln(w, margin+"look: "+check.Look)
	}
}

func (w *walk) end() {
	if w.unlooked > 0 {
		fmt.Fprintln(w, w.mark(doctor.Skipped)+" "+w.wrap(fmt.Sprintf("%d more are not looked at before that is mended", w.unlooked), w.indent))
	}
	fmt.Fprintf(w, "%d OK, %d to heed, %d failed, %d skipped\n", w.counts[doctor.OK], w.counts[doctor.Warn], w.counts[doctor.Fail], w.counts[doctor.Skipped])
}
