// Command ca-certificates writes the images' certificate authorities as PEM to its
// standard output. The Dockerfile runs it, so that both ways to an image trust the same.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/bucket-access/bucket-access-webhook/hack/images/roots"
)

func main() {
	if err := write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ca-certificates:", err)
		os.Exit(1)
	}
}

func write(w io.Writer) error {
	certificates, err := roots.PEM()
	if err != nil {
		return err
	}
	if _, err := w.Write(certificates); err != nil {
		return fmt.Errorf("writing the certificates: %w", err)
	}
	return nil
}
