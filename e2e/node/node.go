package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// Name of the one node.
const Name = "node-1"

// Options of a node.
type Options struct {
	// Images are tar archives, of OCI or of docker save, that the node has from the start.
	Images []string
	// Progress is told what takes time; nil is silence.
	Progress func(format string, args ...any)
}

// Node is a running node.
type Node struct {
	lab       *lab.Lab
	options   Options
	directory string
	cgroups   *cgroups
}

// wholeRange is in the uid_map of a namespace that has every user.
const wholeRange = "4294967295"

// Missing names the programs that a node needs and that the machine does not have, and why
// a node can't run here at all; both empty when it can.
func Missing() (programs []string, why string) {
	// Who made a user namespace is root in it, and of nothing outside.
	if mapped, err := os.ReadFile("/proc/self/uid_map"); err != nil || os.Geteuid() != 0 || !strings.Contains(string(mapped), wholeRange) {
		return nil, "a node needs root"
	}
	for _, name := range []string{"containerd", "ctr", "runc", "iptables", "conntrack"} {
		if _, err := exec.LookPath(name); err != nil {
			programs = append(programs, name)
		}
	}
	if _, err := os.Stat(filepath.Join(pluginDirectory, "ptp")); err != nil {
		programs = append(programs, pluginDirectory+"/ptp")
	}
	return programs, ""
}

// Start joins a node to a lab that was started with Options.Nodes, and waits until it is
// Ready and every image is there. End it with Stop, also after an error, before the lab's.
func Start(ctx context.Context, l *lab.Lab, options Options) (*Node, error) {
	if options.Progress == nil {
		options.Progress = func(string, ...any) {}
	}
	n := &Node{lab: l, options: options, directory: filepath.Join(l.Dir, "node")}
	if programs, why := Missing(); why != "" || len(programs) > 0 {
		return n, fmt.Errorf("%s: missing %q; make node-packages installs Debian's", why, programs)
	}
	options.Progress("starting kubelet, scheduler, controller-manager, kube-proxy and containerd")
	for _, step := range []func(context.Context) error{
		n.furnish, n.startContainerd, n.importImages, n.startControllers, n.startKubelet, n.startProxy, n.waitReady,
	} {
		if err := step(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// covered are directories that programs of a node have fixed names for, and that the
// machine's own node, or that of another run, has too: /run holds sockets and locks, the
// others logs, device plugins and addresses.
var covered = []string{"/run", "/var/log", "/var/lib/kubelet", "/var/lib/cni"}

// furnish makes what a node expects of its machine.
func (n *Node) furnish(context.Context) (err error) {
	if err := os.MkdirAll(n.directory, 0o755); err != nil {
		return err
	}
	for _, directory := range covered {
		err := os.MkdirAll(directory, 0o755)
		if err == nil {
			err = unix.Mount("tmpfs", directory, "tmpfs", 0, "mode=755")
		}
		if err != nil {
			return fmt.Errorf("covering %s: %w", directory, err)
		}
	}
	// The kubelet's sockets are below its directory, and a socket's path has at most 108
	// characters: the directory gets a short name.
	if err := os.MkdirAll(short, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(n.directory, short, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", n.directory, short, err)
	}
	if n.cgroups, err = newCgroups(); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) // of this network namespace
}

func (n *Node) waitReady(ctx context.Context) error {
	n.options.Progress("waiting for the node")
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		var node corev1.Node
		if last = n.lab.Client.Get(ctx, client.ObjectKey{Name: Name}, &node); last != nil {
			continue
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
			last = errors.New(condition.Message)
		}
	}
	return fmt.Errorf("the node is not Ready: %w; its log is %s", last, filepath.Join(n.lab.LogDir(), "kubelet.log"))
}

// Stop ends the containers, which are not the lab's own processes, and takes away what
// they leave. The daemons are ended by the lab.
func (n *Node) Stop() error {
	if n.cgroups == nil {
		return nil
	}
	n.lab.StopDaemons()
	return errors.Join(n.cgroups.remove(), unmountBelow(short), unmountBelow(n.lab.Dir))
}
