// Command images packs the webhook and the demo reader into OCI images for amd64 and
// arm64, without a container engine and reproducibly: the same source, version, Go and
// SOURCE_DATE_EPOCH give the same digests. Beside each image are its SBOMs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/bucket-access/bucket-access-webhook/hack/images/roots"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run gives the exit code: 1 when building failed, 2 when the command line or the
// environment can't be understood.
func run(ctx context.Context, args []string, environment func(string) string, stdout, stderr io.Writer) int {
	o, err := parse(ctx, args, environment, stderr)
	if err == nil {
		err = build(ctx, o, stdout, stderr)
	}
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case err == errUsage: //nolint:errorlint // the bare error is one that was explained already
		return 2
	}
	fmt.Fprintln(stderr, "images:", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

// build makes every image, and then says what there is.
func build(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	if err := os.MkdirAll(o.out, 0o750); err != nil { //nolint:gosec // -out is where the caller wants it
		return fmt.Errorf("-out: %w", err)
	}
	scratch, err := os.MkdirTemp("", "images-")
	if err != nil {
		return fmt.Errorf("making a directory for the binaries: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	var summary []string
	for i := range o.specs {
		s := &o.specs[i]
		lines, err := buildImage(ctx, o, s, scratch, stderr)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		summary = append(summary, lines...)
	}
	for _, line := range summary {
		fmt.Fprintln(stdout, line)
	}
	return nil
}

func buildImage(ctx context.Context, o *options, s *spec, scratch string, progress io.Writer) ([]string, error) {
	var platforms []built
	var lines []string
	for _, arch := range o.architectures {
		fmt.Fprintf(progress, "%s linux/%s: building\n", s.name, arch)
		binary, err := binaryOf(ctx, o, s, arch, scratch)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(progress, "%s linux/%s: packing\n", s.name, arch)
		p, err := buildPlatform(o, s, arch, binary)
		if err != nil {
			return nil, fmt.Errorf("linux/%s: %w", arch, err)
		}
		line, err := describe(p)
		if err != nil {
			return nil, fmt.Errorf("linux/%s: %w", arch, err)
		}
		platforms, lines = append(platforms, *p), append(lines, line)
	}
	dir := filepath.Join(o.out, s.name)
	digest, err := writeLayout(dir, s, &o.release, platforms)
	if err != nil {
		return nil, err
	}
	if err := archive(dir, dir+".tar", o.release.created); err != nil {
		return nil, err
	}
	return append([]string{fmt.Sprintf("%s@%s\n  %s.tar", s.reference(o.release.version), digest, dir)}, lines...), nil
}

func buildPlatform(o *options, s *spec, arch, binary string) (*built, error) {
	program, err := os.ReadFile(binary) //nolint:gosec // the binary is just built, or named by a flag
	if err != nil {
		return nil, fmt.Errorf("reading the binary: %w", err)
	}
	files := []file{{path: s.binary(), mode: 0o555, content: program}}
	var certificates []byte
	if s.certificates {
		if certificates, err = roots.PEM(); err != nil {
			return nil, err
		}
		files = append(files, file{path: certificatesPath, mode: 0o444, content: certificates})
	}
	image, err := pack(s, &o.release, arch, files)
	if err != nil {
		return nil, err
	}
	bill, err := billOf(binary, o.release.version, certificates)
	if err != nil {
		return nil, err
	}
	beside := filepath.Join(o.out, s.name+"-linux-"+arch+".cdx.json")
	if err := os.WriteFile(beside, bill, 0o644); err != nil { //nolint:gosec // an SBOM is for everybody
		return nil, fmt.Errorf("writing the SBOM: %w", err)
	}
	return &built{arch: arch, image: image, sbom: bill}, nil
}

// describe is the line of one platform in the summary: the size is what is pulled.
func describe(p *built) (string, error) {
	digest, err := p.image.Digest()
	if err != nil {
		return "", fmt.Errorf("digesting the image: %w", err)
	}
	size, err := pulled(p.image)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("  linux/%s %s %.1f MB to pull", p.arch, digest, float64(size)/1e6), nil
}

func pulled(image v1.Image) (int64, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return 0, fmt.Errorf("reading the manifest: %w", err)
	}
	size := manifest.Config.Size
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size, nil
}
