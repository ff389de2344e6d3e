package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"

	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// statusOptions are the flags of status.
type statusOptions struct {
	place

	all, watch      bool
	whoCan, whatCan string
	output          string
	interval        time.Duration
}

const statusExample = `  kubectl bucket-access status -A                      # all policies and Pods of the cluster
  kubectl bucket-access status orders -A -o wide       # one, with region, role and subjects
  kubectl bucket-access status --who-can orders-data   # who reads the bucket, or may
  kubectl bucket-access status --what-can default/api-sa`

const statusLong = `status lists policies with the ServiceAccounts and Pods that have their access, and
below what is not as it should be, with the command that mends it: Pods that are
outdated, uninjected or revoked, requests that can't be met, policies that are not in
force. --who-can and --what-can list who reads a bucket, and what is read.

The exit code is 1 when something is not as it should be, and 2 when it could not
look. It is 0 for --who-can, --what-can and --watch, whatever they list.`

var statusOutputs = []string{outputTable, "wide", outputJSON, outputYAML, "csv"}

func newStatus(e *environment) *cobra.Command {
	o := &statusOptions{}
	command := &cobra.Command{
		Use: "status [POLICY]", Short: "List who can read what, and Pods that differ from their policy",
		Long: statusLong, Example: statusExample, Args: cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			return e.status(command.Context(), o, kubectl(command), args)
		},
	}
	f := command.Flags()
	o.bind(f)
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "count ServiceAccounts and Pods of all namespaces")
	f.StringVar(&o.whoCan, "who-can", "", "name of a bucket: list the ServiceAccounts of all namespaces that can read it")
	f.StringVar(&o.whatCan, "what-can", "", "namespace/name of a ServiceAccount: list the buckets that it can read")
	f.StringVarP(&o.output, "output", "o", outputTable, strings.Join(statusOutputs, ", "))
	f.BoolVarP(&o.watch, "watch", "w", false, "read again at the interval, and print what has changed")
	f.DurationVar(&o.interval, "interval", 5*time.Second, "time between two reads of --watch, at least a second")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(statusOutputs, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
	return command
}

func (o *statusOptions) check(args []string) error {
	namespace, name, both := strings.Cut(o.whatCan, "/")
	switch {
	case !slices.Contains(statusOutputs, cmp.Or(o.output, outputTable)):
		return fmt.Errorf("--output %q is none of %s", o.output, strings.Join(statusOutputs, ", "))
	case o.whatCan != "" && (!both || namespace == "" || name == "" || strings.Contains(name, "/")):
		return fmt.Errorf("--what-can %q is no namespace/name, like default/api-sa", o.whatCan)
	case o.whatCan != "" && o.whoCan != "":
		return errors.New("--who-can and --what-can are two questions: ask one")
	case (o.whatCan != "" || o.whoCan != "") && len(args) > 0:
		return fmt.Errorf("--who-can and --what-can look at all policies: leave %q out", args[0])
	case o.interval < time.Second:
		return fmt.Errorf("--interval %s is less than a second", o.interval)
	}
	return nil
}

// status prints once, or until it is interrupted.
func (e *environment) status(ctx context.Context, o *statusOptions, commands status.Kubectl, args []string) error {
	c, err := e.connect()
	if err != nil {
		return err
	}
	source := &status.Source{
		Client: c.client, REST: c.clients.Discovery().RESTClient(), Own: o.own, Configuration: o.configuration, Namespace: c.namespace, Kubectl: commands,
	}
	if namespace, _, both := strings.Cut(o.whatCan, "/"); both {
		source.Namespace = namespace
	} else if o.all || o.whoCan != "" {
		source.Namespace = ""
	}
	w := &watcher{
		statusOptions: o, source: source, screen: e.screen(e.Out), errors: e.ErrOut, progress: e.progress(), args: args,
	}
	return w.run(ctx)
}

// print returns errFindings when it has told of something that is not as it should be.
func (o *statusOptions) print(s *screen, facts *status.Facts, namespace string, args []string) error {
	if o.whoCan != "" || o.whatCan != "" {
		return o.printAccess(s, facts)
	}
	report := status.Make(facts)
	if len(args) > 0 {
		i := slices.IndexFunc(report.Policies, func(p status.Policy) bool { return p.Name == args[0] })
		if i < 0 {
			return fmt.Errorf("no policy %q in namespace %s", args[0], o.own)
		}
		report.Policies, report.Problems = report.Policies[i:i+1], nil
	}
	hints := hintsOf(report, facts.Kubectl)
	var err error
	switch o.output {
	case outputJSON, outputYAML:
		err = printObject(s, o.output, report)
	case "csv":
		err = printCSV(s, policyTable(report, true))
	default:
		policyTable(report, o.output == "wide").print(s)
		printHints(s, hints, report.Unread)
		printNamespace(s, namespace)
	}
	if err == nil && len(hints) > 0 {
		return errFindings
	}
	return err
}

// accessList is how accesses are printed for programs.
type accessList struct {
	Accesses []status.Access `json:"accesses"`
	Unread   []string        `json:"unread,omitempty"`
}

func (o *statusOptions) printAccess(s *screen, facts *status.Facts) error {
	var list []status.Access
	if namespace, name, both := strings.Cut(o.whatCan, "/"); both {
		list = facts.WhatCan(types.NamespacedName{Namespace: namespace, Name: name})
	} else {
		list = facts.WhoCan(o.whoCan)
	}
	switch o.output {
	case outputJSON, outputYAML:
		return printObject(s, o.output, accessList{list, facts.Unread})
	case "csv":
		return printCSV(s, accessTable(list, true))
	}
	if len(list) == 0 {
		asked := "nobody can read the bucket " + o.whoCan
		if o.whatCan != "" {
			asked = "the ServiceAccount " + o.whatCan + " can read no bucket"
		}
		fmt.Fprintln(s, s.wrap("By the policies in namespace "+o.own+", "+asked+".", 0))
	} else {
		accessTable(list, o.output == "wide").print(s)
	}
	printUnread(s, facts.Unread)
	return nil
}
