package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// linkFlags are those of the Makefile and the Dockerfile, before the version.
const linkFlags = "-s -w -X main.version="

// compile builds one program for linux/arch. Whatever in the environment would change
// the bytes is set here.
func compile(ctx context.Context, source, name, arch, version, output string) error {
	//nolint:gosec // the version is held to a tag's letters, the rest are constants
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", linkFlags+version, "-o", output, "./cmd/"+name)
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=")
	var said bytes.Buffer
	build.Stdout, build.Stderr = &said, &said
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build ./cmd/%s for linux/%s in %s: %w\n%s", name, arch, source, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// binaryOf gives the path of a program for one architecture: the one that was named on
// the command line, or one that is built into dir.
func binaryOf(ctx context.Context, o *options, s *spec, arch, dir string) (string, error) {
	given := o.binaries[s.target()]
	if given == "" {
		// The directory, not the name, says the architecture: the SBOM has the name.
		output := filepath.Join(dir, arch, s.name)
		return output, compile(ctx, o.source, s.name, arch, o.release.version, output)
	}
	given = strings.ReplaceAll(given, archPlaceholder, arch)
	if err := fits(given, s, arch); err != nil {
		return "", fmt.Errorf("-%s: %w", s.target(), err)
	}
	return given, nil
}

// fits refuses another program, or one for another machine, which would be noticed only
// where the image runs.
func fits(path string, s *spec, arch string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%s can't be read as a Go program; name one that go build made: %w", path, err)
	}
	if want := module + "/cmd/" + s.name; info.Path != want {
		return fmt.Errorf("%s is the program %s; it must be %s", path, info.Path, want)
	}
	for _, want := range []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: arch}, {Key: "CGO_ENABLED", Value: "0"}} {
		if found := setting(info, want.Key); found != want.Value {
			return fmt.Errorf("%s was built with %s=%s; it must be %s: build it so, or choose -platforms", path, want.Key, found, want.Value)
		}
	}
	return nil
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
