package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// Exit codes of every command.
const (
	exitFine     = 0
	exitFindings = 1 // it looked, and something is wrong
	exitUsage    = 2 // the command line can't be understood, or it could not look
)

// errFindings ends a command that has said what is wrong.
var errFindings = errors.New("findings")

// errUnread ends a command that has said what it could not read.
var errUnread = errors.New("unread")

// environment is what every command is given.
type environment struct {
	genericiooptions.IOStreams

	flags   *genericclioptions.ConfigFlags // kubeconfig, context, namespace and the like
	version string
	// terminal is what stands behind a stream; colours and symbols are for terminals only.
	terminal func(io.Writer) terminal
}

// commands make the plugin's commands, in the order of their help.
var commands = []func(*environment) *cobra.Command{newRender, newValidate, newTrustPolicy, newDoctor, newStatus, newVersion}

// Run is the plugin: it returns the exit code.
func Run(ctx context.Context, args []string, streams genericiooptions.IOStreams, version string) int {
	e := &environment{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true), version: version, terminal: terminalOf}
	return e.run(ctx, args)
}

func (e *environment) run(ctx context.Context, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errFindings):
		return exitFindings
	case errors.Is(err, errUnread):
		return exitUsage
	}
	fmt.Fprintln(e.ErrOut, "error:", printable(strings.TrimPrefix(err.Error(), "error: ")))
	return exitUsage
}

func newRoot(e *environment) *cobra.Command {
	root := &cobra.Command{
		Use: "kubectl-bucket_access", Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl bucket-access"},
		Short: "Explain, check and generate access of Pods to S3 buckets of other accounts",
		// What went wrong is said once, by Run.
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.ErrOut)
	e.flags.AddFlags(root.PersistentFlags())
	for _, command := range commands {
		root.AddCommand(command(e))
	}
	root.InitDefaultCompletionCmd()
	e.complete(root)
	e.fit(root)
	return root
}
