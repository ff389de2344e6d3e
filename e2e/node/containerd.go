package node

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	pluginDirectory = "/usr/lib/cni" // of Debian's containernetworking-plugins
	podNetwork      = "10.244.0.0/16"
	// PauseImage holds a Pod's namespaces; it is among the images that are imported.
	PauseImage = "bucket-access.test/pause:node"
	// state is on the namespace's own /run, as short as sockets' paths must be; short is
	// the node's directory there.
	state  = "/run/bucket-access"
	short  = state + "/node"
	socket = state + "/containerd.sock"
)

// containerdConfig is of version 2, which containerd 1.6 reads and 2.x too.
// restrict_oom_score_adj: in a container without CAP_SYS_RESOURCE no score can be lowered.
const containerdConfig = `version = 2
root = %q
state = %q
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`

func (n *Node) startContainerd(ctx context.Context) error {
	network := filepath.Join(n.directory, "cni")
	for _, directory := range []string{state, network} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	if err := n.writeNetwork(filepath.Join(network, "10-pods.conflist")); err != nil {
		return err
	}
	config := filepath.Join(n.directory, "containerd.toml")
	text := fmt.Sprintf(containerdConfig, filepath.Join(n.directory, "containerd"), state, socket, PauseImage, pluginDirectory, network)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	daemon, err := n.lab.StartDaemon("containerd", exec.Command("containerd", "--config", config))
	if err != nil {
		return err
	}
	return daemon.Wait(ctx, "containerd answers", 30*time.Second, func() bool {
		return exec.CommandContext(ctx, "ctr", "--address", socket, "version").Run() == nil
	})
}

// writeNetwork gives every Pod a link of its own to the node (ptp): over a common bridge,
// answers of a Service's Pod to a neighbour would go past kube-proxy.
func (n *Node) writeNetwork(path string) error {
	document, err := json.Marshal(map[string]any{
		"cniVersion": "0.4.0", "name": "pods",
		"plugins": []any{map[string]any{
			"type": "ptp",
			"ipam": map[string]any{
				"type": "host-local", "dataDir": filepath.Join(n.directory, "addresses"),
				"ranges": []any{[]any{map[string]any{"subnet": podNetwork}}}, "routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
			},
		}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, document, 0o600)
}

func (n *Node) importImages(ctx context.Context) error {
	n.options.Progress("importing %d images", len(n.options.Images))
	for _, image := range n.options.Images {
		said, err := exec.CommandContext(ctx, "ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", image).CombinedOutput()
		if err != nil {
			return fmt.Errorf("importing %s: %w: %s", image, err, said)
		}
	}
	return nil
}
