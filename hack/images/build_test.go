package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const (
	testVersion = "1.2.3-test"
	testEpoch   = "1767225600"
	testCreated = "2026-01-01T00:00:00Z"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if firstDir != "" {
		os.RemoveAll(firstDir)
	}
	os.Exit(code)
}

// firstDir is where the first build is, once a test needed it.
var firstDir string

// first is one build, which all tests look at.
var first = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "images-test-")
	if err != nil {
		return "", err
	}
	firstDir = dir
	return dir, buildInto(dir)
})

func buildInto(dir string, more ...string) error {
	var stdout, stderr bytes.Buffer
	args := append([]string{"-out", dir, "-version", testVersion, "-revision", "0123456789abcdef0123456789abcdef01234567"}, more...)
	if code := run(context.Background(), args, epoch(testEpoch), &stdout, &stderr); code != 0 {
		return errors.New(stderr.String())
	}
	for _, want := range []string{"@sha256:", "linux/amd64", "MB to pull"} {
		if !strings.Contains(stdout.String(), want) {
			return errors.New("the summary lacks " + want + ": " + stdout.String())
		}
	}
	return nil
}

func epoch(value string) func(string) string {
	return func(name string) string { return map[string]string{"SOURCE_DATE_EPOCH": value}[name] }
}

func images(t *testing.T) string {
	t.Helper()
	dir, err := first()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// index is the one index of a layout that has a name, and the layout's own list.
func index(t *testing.T, s *spec) (v1.ImageIndex, []v1.Descriptor) {
	t.Helper()
	top, err := layout.ImageIndexFromPath(filepath.Join(images(t), s.name))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	named := manifest.Manifests[0]
	if got, want := named.Annotations["io.containerd.image.name"], "ghcr.io/bucket-access/"+s.name+":"+testVersion; got != want {
		t.Errorf("the index is named %q, want %q", got, want)
	}
	if got := named.Annotations["org.opencontainers.image.ref.name"]; got != testVersion {
		t.Errorf("the tag is %q", got)
	}
	found, err := top.ImageIndex(named.Digest)
	if err != nil {
		t.Fatal(err)
	}
	return found, manifest.Manifests
}

func platformImages(t *testing.T, s *spec) map[string]v1.Image {
	t.Helper()
	found, _ := index(t, s)
	manifest, err := found.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{}
	for _, d := range manifest.Manifests {
		if images[d.Platform.String()], err = found.Image(d.Digest); err != nil {
			t.Fatal(err)
		}
	}
	return images
}

func TestTwoBuildsAreTheSameBytes(t *testing.T) {
	one, two := images(t), t.TempDir()
	// Another order of the platforms is the same build.
	if err := buildInto(two, "-platforms", "linux/arm64,linux/amd64"); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(one, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(one, path)
		a, _ := os.ReadFile(path)
		b, err := os.ReadFile(filepath.Join(two, name))
		if err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs between two builds (%v)", name, err)
		}
		seen++
		return nil
	})
	if err != nil || seen < 20 {
		t.Errorf("compared %d files: %v", seen, err)
	}
}

func TestTheLayoutIsValidAndHasBothPlatforms(t *testing.T) {
	for i := range specs {
		found, _ := index(t, &specs[i])
		if err := validate.Index(found); err != nil {
			t.Errorf("%s: %v", specs[i].name, err)
		}
		platforms := slices.Sorted(maps.Keys(platformImages(t, &specs[i])))
		if !slices.Equal(platforms, []string{"linux/amd64", "linux/arm64"}) {
			t.Errorf("%s has the platforms %q", specs[i].name, platforms)
		}
	}
}

func TestTheTarIsTheLayoutWithItsFirstFilesFirst(t *testing.T) {
	for _, s := range specs {
		dir := filepath.Join(images(t), s.name)
		content, err := os.ReadFile(dir + ".tar")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for name, content := range entries(t, bytes.NewReader(content)) {
			names = append(names, name)
			if onDisk, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(onDisk) != string(content.content) {
				t.Errorf("%s.tar: %s is not as in the layout: %v", s.name, name, err)
			}
		}
		if len(names) < 10 || names[0] != "oci-layout" || names[1] != "index.json" {
			t.Errorf("%s.tar has %q", s.name, names)
		}
	}
}

func TestTheConfigurationIsNotRootAndHasTheLabels(t *testing.T) {
	for _, s := range specs {
		for platform, image := range platformImages(t, &s) {
			file, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			c := file.Config
			if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/" + s.name}) || len(c.Env) > 0 || len(c.Cmd) > 0 {
				t.Errorf("%s %s: user %q, entrypoint %q, env %q, cmd %q", s.name, platform, c.User, c.Entrypoint, c.Env, c.Cmd)
			}
			if file.OS+"/"+file.Architecture != platform || file.Created.UTC().Format("2006-01-02T15:04:05Z") != testCreated {
				t.Errorf("%s %s: the configuration is of %s/%s at %s", s.name, platform, file.OS, file.Architecture, file.Created)
			}
			for _, label := range []string{"title", "description", "source", "version", "revision", "created", "licenses", "url"} {
				if c.Labels["org.opencontainers.image."+label] == "" {
					t.Errorf("%s %s has no label %s", s.name, platform, label)
				}
			}
			if got := c.Labels["org.opencontainers.image.created"]; got != testCreated {
				t.Errorf("%s %s: the label says created %s", s.name, platform, got)
			}
		}
	}
}
