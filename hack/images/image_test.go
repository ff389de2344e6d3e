package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

type packed struct {
	header  *tar.Header
	content []byte
}

// entries are the files of a tar, in order.
func entries(t *testing.T, r io.Reader) func(func(string, packed) bool) {
	t.Helper()
	return func(yield func(string, packed) bool) {
		tr := tar.NewReader(r)
		for header, err := tr.Next(); !errors.Is(err, io.EOF); header, err = tr.Next() {
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(header.Name, packed{header, content}) {
				return
			}
		}
	}
}

func filesOf(t *testing.T, image v1.Image) map[string]packed {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]packed{}
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for name, f := range entries(t, r) {
			files[name] = f
		}
		r.Close()
	}
	return files
}

func TestAnImageHasOnlyTheExpectedFilesOwnedByRootAndUnwritable(t *testing.T) {
	want := map[string][]string{
		"bucket-access-webhook": {"bucket-access-webhook"},
		"bucket-access-reader":  {"bucket-access-reader", "etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt"},
	}
	for _, s := range specs {
		for platform, image := range platformImages(t, &s) {
			files := filesOf(t, image)
			if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want[s.name]) {
				t.Errorf("%s %s has %q", s.name, platform, got)
			}
			for name, f := range files {
				h := f.header
				if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 || h.ModTime.UTC().Format("2006-01-02T15:04:05Z") != testCreated {
					t.Errorf("%s: %s is of %d:%d, mode %o, at %s", s.name, name, h.Uid, h.Gid, h.Mode, h.ModTime)
				}
			}
			if f := files[s.name]; f.header.Mode != 0o555 {
				t.Errorf("%s: the binary has the mode %o", s.name, f.header.Mode)
			}
		}
	}
}

func TestTheBinaryOfTheImageRunsAndPrintsTheVersion(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the binaries are for Linux")
	}
	for _, s := range specs {
		path := filepath.Join(t.TempDir(), s.name)
		binary := filesOf(t, platformImages(t, &s)["linux/"+runtime.GOARCH])[s.name]
		if err := os.WriteFile(path, binary.content, 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), path, "--version").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != s.name+" "+testVersion {
			t.Errorf("%s --version said %q: %v", s.name, out, err)
		}
	}
}

func TestTheReaderTrustsAmazonsRoots(t *testing.T) {
	file := filesOf(t, platformImages(t, &specs[1])["linux/amd64"])["etc/ssl/certs/ca-certificates.crt"]
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(file.content) {
		t.Fatal("no certificate can be read")
	}
	amazon := 0
	for _, subject := range pool.Subjects() { //nolint:staticcheck // a pool that was read from a file has all its subjects
		if bytes.Contains(subject, []byte("Amazon Root CA")) {
			amazon++
		}
	}
	if amazon != 4 {
		t.Errorf("%d of Amazon's 4 roots", amazon)
	}
}
