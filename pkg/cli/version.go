package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newVersion(e *environment) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the plugin's version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(e.Out, "kubectl-bucket_access", e.version)
			return err
		},
	}
}
