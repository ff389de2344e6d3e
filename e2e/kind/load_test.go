package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/kind/pkg/cluster/nodeutils"
	"sigs.k8s.io/kind/pkg/exec"
)

// TestLoad has kind's own code load the images of make node-images into a containerd of
// this machine, which stands in for a node's: no container engine runs where this was
// written. Debian's is containerd 1, stricter here than that of kind's newest node image.
func TestLoad(t *testing.T) {
	directory := filepath.Join("..", "..", "out", "node-images")
	archives, err := filepath.Glob(filepath.Join(directory, "*.tar"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("no images in %s (make node-images packs them): %v", directory, err)
	}
	version, err := os.ReadFile(filepath.Join(directory, "version"))
	if err != nil {
		t.Fatal(err)
	}
	node := startNode(t)
	for _, archive := range archives {
		file, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		if err := nodeutils.LoadImageArchive(node, file); err != nil {
			t.Errorf("%s: %v\n%s", archive, err, said(err))
		}
		_ = file.Close()
	}
	loaded := node.images(t)
	for _, reference := range []string{
		"ghcr.io/bucket-access/bucket-access-webhook:" + string(version), "ghcr.io/bucket-access/bucket-access-reader:" + string(version),
		"bucket-access.test/app:node",
	} {
		if !loaded[reference] {
			t.Errorf("%s is not there, whole and unpacked; there are %v", reference, loaded)
		}
	}
	// kind makes one more image of whatever an archive lists, and a node must be able to run it.
	for reference, unpacked := range loaded {
		if !unpacked {
			t.Errorf("%s is not unpacked", reference)
		}
	}
	if err := nodeutils.LoadImageArchive(node, strings.NewReader("no archive")); err == nil {
		t.Error("what is no archive was loaded")
	}
}

// node is this machine in the place of kind's container: it runs kind's commands.
type node struct{ socket, config string }

func startNode(t *testing.T) *node {
	t.Helper()
	if _, err := osexec.LookPath("containerd"); err != nil || os.Geteuid() != 0 {
		t.Fatalf("a containerd, and root, are needed (make node-packages installs Debian's): %v", err)
	}
	directory := t.TempDir()
	n := &node{socket: filepath.Join(directory, "s"), config: filepath.Join(directory, "config.toml")}
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\naddress = %q\n",
		filepath.Join(directory, "root"), filepath.Join(directory, "state"), n.socket)
	if err := os.WriteFile(n.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	daemon := osexec.Command("containerd", "--config", n.config)
	daemon.Stdout, daemon.Stderr = &log, &log
	// What it mounts is seen by nobody else, and is gone with it.
	daemon.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		_ = daemon.Wait() // or it makes files in a directory that is being removed
	})
	for range 300 {
		if n.Command("ctr", "version").Run() == nil {
			return n
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = daemon.Process.Kill()
	_ = daemon.Wait() // its output is complete only then
	t.Fatalf("containerd did not answer in 30 s:\n%s", log.String())
	return nil
}

// images says of each image whether it is whole and unpacked.
func (n *node) images(t *testing.T) map[string]bool {
	t.Helper()
	lines, err := exec.OutputLines(n.Command("ctr", "--namespace=k8s.io", "images", "check"))
	if err != nil || len(lines) < 2 {
		t.Fatalf("ctr images check: %v\n%s", err, said(err))
	}
	images := map[string]bool{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		images[fields[0]] = strings.Contains(line, " complete ") && fields[len(fields)-1] == "true"
	}
	return images
}

func (n *node) Command(name string, args ...string) exec.Cmd {
	return n.CommandContext(context.Background(), name, args...)
}

func (n *node) CommandContext(ctx context.Context, name string, args ...string) exec.Cmd {
	if name == "containerd" { // which has its configuration in a usual place on a node
		args = append([]string{"--config", n.config}, args...)
	}
	return exec.CommandContext(ctx, name, args...).SetEnv(append(os.Environ(), "CONTAINERD_ADDRESS="+n.socket)...)
}

func (n *node) String() string                     { return "node" }
func (n *node) Role() (string, error)              { return "control-plane", nil }
func (n *node) IP() (ipv4, ipv6 string, err error) { return "", "", errors.ErrUnsupported }
func (n *node) SerialLogs(io.Writer) error         { return errors.ErrUnsupported }

// said is the output of a command that failed.
func said(err error) string {
	if failed := exec.RunErrorForError(err); failed != nil {
		return string(failed.Output)
	}
	return ""
}
