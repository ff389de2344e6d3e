package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestABadCommandLineIsAnsweredWithWhatIsAllowed(t *testing.T) {
	out := t.TempDir()
	version := []string{"-version", "1.2.3", "-out", out, "-revision", "0"}
	given := append(version, "-platforms", "linux/amd64", "-only", "webhook")
	tests := map[string]struct {
		args  []string
		epoch string
		code  int
		want  string
	}{
		"no version":            {nil, testEpoch, 2, `-version is ""; it must be a tag`},
		"a version with a plus": {[]string{"-version", "1+2"}, testEpoch, 2, `-version is "1+2"`},
		"a version with flags":  {[]string{"-version", "1 -X main.x=y"}, testEpoch, 2, "it must be a tag"},
		"an argument":           {append(version, "webhook"), testEpoch, 2, `unexpected argument "webhook"`},
		"an unknown flag":       {append(version, "-push"), testEpoch, 2, "flag provided but not defined: -push"},
		"an unknown platform":   {append(version, "-platforms", "linux/riscv64"), testEpoch, 2, `"linux/riscv64"; write linux/amd64, linux/arm64 or both`},
		"no platform":           {append(version, "-platforms", ""), testEpoch, 2, `-platforms has ""`},
		"an unknown image":      {append(version, "-only", "plugin"), testEpoch, 2, `-only is "plugin"; it must be webhook or reader`},
		"another repository":    {append(version, "-source", out), testEpoch, 2, "has no go.mod of " + module},
		"a date as a word":      {version, "today", 2, `SOURCE_DATE_EPOCH is "today"; it must be seconds since 1970`},
		"one file for two":      {append(version, "-webhook", "x"), testEpoch, 2, "put {arch} into the path"},
		"a file left out":       {append(version, "-only", "reader", "-webhook", "x"), testEpoch, 2, "-only leaves that image out"},
		"a missing file":        {append(given, "-webhook", filepath.Join(out, "none")), testEpoch, 1, "can't be read as a Go program"},
		"help":                  {[]string{"-help"}, testEpoch, 0, "without a container engine"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), test.args, epoch(test.epoch), &stdout, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.want) || stdout.Len() > 0 {
				t.Errorf("exit code %d, want %d; said %q, want %q", code, test.code, stderr.String(), test.want)
			}
		})
	}
}

func TestADirectoryThatIsNoLayoutIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "main.go")
	if err := os.WriteFile(precious, []byte("package main"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clearLayout(dir); err == nil || !strings.Contains(err.Error(), "is no OCI layout, so it is left alone; name another -out") {
		t.Error(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestABinaryThatDoesNotFitItsImageIsRefused(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ca-certificates")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "./ca-certificates").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	err := fits(program, &specs[0], runtime.GOARCH)
	if err == nil || !strings.Contains(err.Error(), "is the program "+module+"/hack/images/ca-certificates; it must be "+module+"/cmd/bucket-access-webhook") {
		t.Error(err)
	}
}

func TestABinaryForAnotherArchitectureIsRefusedAndTheRightOneIsPacked(t *testing.T) {
	image := platformImages(t, &specs[1])["linux/amd64"]
	path := filepath.Join(t.TempDir(), specs[1].name)
	if err := os.WriteFile(path, filesOf(t, image)[specs[1].name].content, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := fits(path, &specs[1], "arm64"); err == nil || !strings.Contains(err.Error(), "built with GOARCH=amd64; it must be arm64") {
		t.Error(err)
	}
	out := t.TempDir()
	if err := buildInto(out, "-only", "reader", "-platforms", "linux/amd64", "-reader", path); err != nil {
		t.Error(err)
	}
}
