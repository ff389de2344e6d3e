// Command testimages packs the programs of e2e/images, which only the tests use, into
// images for this machine: NAME.tar in the directory that is named, as docker save writes.
// It takes the SBOMs out of the product's archives there: see sbom.go.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// images are known by a domain that nobody can own (RFC 2606), and a tag that a kubelet
// does not pull again.
var images = map[string]string{"pause": "bucket-access.test/pause:node", "app": "bucket-access.test/app:node"}

// standIns are names that the samples use, of programs that do nothing either.
var standIns = map[string]string{"pause": "registry.k8s.io/pause:3.10"}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: testimages DIRECTORY")
		os.Exit(2)
	}
	for program, reference := range images {
		if err := build(program, reference, os.Args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "testimages: %s: %v\n", program, err)
			os.Exit(1)
		}
	}
	if err := withoutSBOMs(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "testimages: %v\n", err)
		os.Exit(1)
	}
}

func build(program, reference, directory string) error {
	scratch, err := os.MkdirTemp("", "testimages-")
	if err != nil {
		return fmt.Errorf("making a directory for the program: %w", err)
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	binary := filepath.Join(scratch, program)
	//nolint:gosec,noctx // the programs are constants
	compile := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, "./e2e/images/"+program)
	compile.Dir = filepath.Join("..", "..")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if said, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./e2e/images/%s: %w\n%s", program, err, said)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	image, err := pack(program, content)
	if err != nil {
		return err
	}
	named := map[name.Tag]v1.Image{}
	for _, reference := range []string{reference, standIns[program]} {
		if reference == "" {
			continue
		}
		tag, err := name.NewTag(reference)
		if err != nil {
			return fmt.Errorf("naming the image: %w", err)
		}
		named[tag] = image
	}
	//nolint:gosec // the directory is where the caller wants it
	if err := errors.Join(os.MkdirAll(directory, 0o750), tarball.MultiWriteToFile(filepath.Join(directory, program+".tar"), named)); err != nil {
		return fmt.Errorf("writing the image: %w", err)
	}
	return nil
}

// pack makes an image of one program that names no user: tests choose one.
func pack(program string, content []byte) (v1.Image, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: program, Mode: 0o555, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("packing the program: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil })
	if err != nil {
		return nil, fmt.Errorf("compressing the layer: %w", err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config.Entrypoint = "linux", runtime.GOARCH, []string{"/" + program}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	return image, nil
}
