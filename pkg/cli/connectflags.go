package cli

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/bucket-access/bucket-access-webhook/pkg/status"
)

// connecting are the flags that say which cluster is reached, and as whom. Tokens and
// passwords are not among them: they are never shown.
var connecting = []string{
	"kubeconfig", "context", "cluster", "user", "server", "tls-server-name", "certificate-authority", "insecure-skip-tls-verify",
	"client-certificate", "client-key", "as", "as-uid", "as-group", "as-user-extra",
}

// kubectl makes printed commands that go where this one went: with the flags that were given.
func kubectl(command *cobra.Command) (k status.Kubectl) {
	command.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case slices.Contains(connecting, f.Name):
			k.Flags = append(k.Flags, words(f)...)
		case f.Name == flagOwn || f.Name == flagConfiguration:
			k.Plugin = append(k.Plugin, words(f)...)
		}
	})
	return k
}

// words are a flag as it is given, for each of its values.
func words(f *pflag.Flag) (all []string) {
	values := []string{f.Value.String()}
	if list, is := f.Value.(pflag.SliceValue); is {
		values = list.GetSlice()
	}
	for _, value := range values {
		all = append(all, "--"+f.Name+"="+value)
	}
	return all
}
