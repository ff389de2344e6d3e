package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bucket-access/bucket-access-webhook/pkg/doctor"
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
credentials, where there are any, are used for iam:GetRole and nothing else.

The exit code is 1 when a check failed, and 2 when it could not look.`

func newDoctor(e *environment) *cobra.Command {
	o := &doctorOptions{}
	command := &cobra.Command{
		Use: "doctor [pod/NAME|sa/NAME|ns/NAME|POLICY]", Short: "Find the first broken link between a Pod and its bucket",
		Long: doctorLong, Example: doctorExample, Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "table", "json", "yaml"}, o.output) {
				return fmt.Errorf("--output %q is none of table, json and yaml", o.output)
			}
			return e.doctor(command.Context(), o, strings.Join(args, ""))
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

func (e *environment) doctor(ctx context.Context, o *doctorOptions, argument string) error {
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
	}
	report := d.Examine(ctx)
	if o.output == "json" || o.output == "yaml" {
		err = printObject(e.Out, o.output, report)
	} else {
		printReport(newScreen(e.Out), report)
	}
	if err == nil && !report.Healthy {
		return errFindings
	}
	return err
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

// printReport prints a check a line, and below what is not fine what mends it. What was
// not looked at after a failure is only counted.
func printReport(s *screen, report *doctor.Report) {
	fmt.Fprintln(s, s.paint(bold, "Looking at "+report.Target))
	indent := len("Skipped ")
	if s.interactive() {
		indent = 2
	}
	counts := map[doctor.State]int{}
	unlooked := 0
	for i := range report.Checks {
		check := &report.Checks[i]
		counts[check.State]++
		if check.NotLooked() && s.interactive() {
			unlooked++
			continue
		}
		fmt.Fprintln(s, s.mark(check.State)+" "+s.wrap(check.ID+": "+check.Why, indent))
		if check.State == doctor.OK {
			continue
		}
		if check.Fix != "" {
			fmt.Fprintln(s, strings.Repeat(" ", indent)+s.wrap("what to do: "+check.Fix, indent))
		}
		if check.Command != "" {
			// Never broken into lines: it is to be copied.
			fmt.Fprintln(s, strings.Repeat(" ", indent)+"$ "+check.Command)
		}
	}
	if unlooked > 0 {
		fmt.Fprintln(s, s.mark(doctor.Skipped)+" "+s.wrap(fmt.Sprintf("%d more are not looked at before that is mended", unlooked), indent))
	}
	fmt.Fprintf(s, "%d OK, %d to heed, %d failed, %d skipped\n", counts[doctor.OK], counts[doctor.Warn], counts[doctor.Fail], counts[doctor.Skipped])
}
