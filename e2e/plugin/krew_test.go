// Package plugin installs the kubectl plugin as users do, and has kubectl run and complete
// it. No cluster is needed.
package plugin

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// platforms are those that the manifest must have: none is forgotten.
var platforms = []string{"darwin_arm64", "linux_amd64", "linux_arm64"}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	must(t, err)
	return path
}

// home is a person's home directory with krew's in it, and what is on their PATH.
type home struct {
	directory string
	path      []string
}

// newHome is a home with the real kubectl, and the plugin from one of the directories.
func newHome(t *testing.T, path ...string) *home {
	t.Helper()
	return &home{t.TempDir(), append(path, absolute(t, "../../bin/kube"), "/usr/bin", "/bin")}
}

// run runs a program of bin/, or of the PATH, and returns all that it says.
func (h *home) run(t *testing.T, env []string, program string, args ...string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), program, args...)
	command.Env = append([]string{"HOME=" + h.directory, "PATH=" + strings.Join(h.path, ":"), "KUBECONFIG=/dev/null", "KREW_NO_UPGRADE_CHECK=1"}, env...)
	said, err := command.CombinedOutput()
	return string(said), err
}

// release packs a release as make krew-release does. All platforms get this machine's
// program, which was built already: what matters is the packing.
func release(t *testing.T, version string) (directory string) {
	t.Helper()
	programs, directory := t.TempDir(), filepath.Join(t.TempDir(), "release")
	for _, platform := range platforms {
		must(t, os.Symlink(absolute(t, "../../bin/kubectl-bucket_access"), filepath.Join(programs, "kubectl-bucket_access_"+platform)))
	}
	if said, err := exec.CommandContext(t.Context(), "../../hack/krew.sh", version, directory, programs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	return directory
}

func archive(directory, platform string) string {
	return filepath.Join(directory, "kubectl-bucket_access_"+platform+".tar.gz")
}

// TestKrewInstallsARelease: krew's own checker accepts the manifest, krew installs each
// platform's archive, and kubectl finds, runs and completes the plugin.
func TestKrewInstallsARelease(t *testing.T) {
	directory := release(t, "v1.2.3")
	manifest := filepath.Join(directory, "bucket-access.yaml")
	// It would fetch the archives from where a release puts them: they are installed below.
	if said, err := newHome(t).run(t, nil, "../../bin/validate-krew-manifest", "-skip-install", "-manifest", manifest); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	files, err := filepath.Glob(archive(directory, "*"))
	must(t, err)
	if len(files) != len(platforms) {
		t.Errorf("archives %v, want those of %v", files, platforms)
	}
	for _, platform := range platforms {
		t.Run(platform, func(t *testing.T) {
			h := newHome(t)
			system, architecture, _ := strings.Cut(platform, "_")
			said, err := h.run(t, []string{"KREW_OS=" + system, "KREW_ARCH=" + architecture}, "../../bin/krew", "install", "--manifest="+manifest, "--archive="+archive(directory, platform))
			if err != nil || !strings.Contains(said, "Installed plugin: bucket-access") {
				t.Fatalf("%v: %s", err, said)
			}
			store := filepath.Join(h.directory, ".krew/store/bucket-access/v1.2.3")
			for _, name := range []string{"LICENSE", "kubectl-bucket_access", "kubectl_complete-bucket_access"} {
				if _, err := os.Stat(filepath.Join(store, name)); err != nil {
					t.Error(err)
				}
			}
			if platform == runtime.GOOS+"_"+runtime.GOARCH {
				h.path = append(h.path, filepath.Join(h.directory, ".krew/bin"))
				wantInstalled(t, h, said)
			}
		})
	}
}

// wantInstalled uses what krew has installed, and what it said as the plugin's caveats.
func wantInstalled(t *testing.T, h *home, said string) {
	t.Helper()
	help, err := h.run(t, nil, "../../bin/kube/kubectl", "bucket-access", "--help")
	if err != nil || !strings.Contains(help, "kubectl bucket-access [command]") || !strings.Contains(help, "doctor") {
		t.Errorf("%v: %s", err, help)
	}
	if listed, err := h.run(t, nil, "../../bin/kube/kubectl", "plugin", "list"); err != nil || !strings.Contains(listed, ".krew/bin/kubectl-bucket_access") {
		t.Errorf("%v: %s", err, listed)
	}
	_, command, found := strings.Cut(said, "ln -sf ")
	if !found {
		t.Fatalf("the caveats do not say how to complete: %s", said)
	}
	command, _, _ = strings.Cut(command, "\n")
	if said, err := h.run(t, nil, "sh", "-ec", "ln -sf "+command); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if got := h.complete(t, ""); !slices.Contains(got, "doctor") {
		t.Errorf("after the caveats' command kubectl completes %q", got)
	}
}

// TestKrewRefusesAnotherArchive: the sums are those of the archives.
func TestKrewRefusesAnotherArchive(t *testing.T) {
	directory := release(t, "v1.2.3")
	path := archive(directory, "linux_amd64")
	content, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, append(content, 0), 0o600))
	said, err := newHome(t).run(t, []string{"KREW_OS=linux", "KREW_ARCH=amd64"}, "../../bin/krew", "install",
		"--manifest="+filepath.Join(directory, "bucket-access.yaml"), "--archive="+path)
	if err == nil || !strings.Contains(said, "checksum does not match") {
		t.Errorf("%v: %s", err, said)
	}
}

// TestAReleaseHasASemanticVersion, which krew orders releases by.
func TestAReleaseHasASemanticVersion(t *testing.T) {
	for _, version := range []string{"", "1.2.3", "v1.2", "0123abc-dirty", "v1.2.3/../x"} {
		said, err := exec.CommandContext(t.Context(), "../../hack/krew.sh", version, t.TempDir(), t.TempDir()).CombinedOutput()
		if err == nil || !strings.Contains(string(said), "make krew-release VERSION=v1.2.3") {
			t.Errorf("%q: %v: %s", version, err, said)
		}
	}
}
