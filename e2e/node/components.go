package node

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/bucket-access/bucket-access-webhook/e2e/lab"
)

// kubeletConfig: whoever reaches the kubelet is inside of the lab's namespaces, so it asks
// nobody who they are. A full disk of the machine's is no reason to evict Pods or images.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
readOnlyPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: %[2]s
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
resolvConf: ""
containerRuntimeEndpoint: unix://%[3]s
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%%", imagefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.inodesFree: "0%%", memory.available: 100Mi}
serializeImagePulls: false
registerWithTaints: []
`

func (n *Node) startKubelet(context.Context) error {
	kubeconfig, err := n.lab.User("system:node:"+Name, "system:nodes")
	if err != nil {
		return err
	}
	config := filepath.Join(n.directory, "kubelet.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, kubeletConfig, n.lab.Host(), n.cgroups.name, socket), 0o600); err != nil {
		return err
	}
	_, err = n.run("kubelet", "--config="+config, "--kubeconfig="+kubeconfig, "--hostname-override="+Name, "--node-ip="+n.lab.Host(),
		"--root-dir="+filepath.Join(short, "kubelet"), "--cert-dir="+filepath.Join(n.directory, "kubelet-pki"), "--v=2")
	return err
}

// startControllers runs the scheduler and the controller-manager as the administrator.
func (n *Node) startControllers(context.Context) error {
	ca, err := n.lab.CA()
	if err != nil {
		return err
	}
	if _, err := n.run("kube-controller-manager", "--kubeconfig="+n.lab.Kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--root-ca-file="+ca, "--service-account-private-key-file="+n.lab.SigningKey()); err != nil {
		return err
	}
	_, err = n.run("kube-scheduler", "--kubeconfig="+n.lab.Kubeconfig, "--leader-elect=false", "--secure-port=0")
	return err
}

func (n *Node) startProxy(ctx context.Context) error {
	address := n.lab.Host() + ":10256"
	// The conntrack limits belong to the whole machine: they are not touched.
	daemon, err := n.run("kube-proxy", "--kubeconfig="+n.lab.Kubeconfig, "--hostname-override="+Name, "--proxy-mode=iptables",
		"--cluster-cidr="+podNetwork, "--healthz-bind-address="+address, "--metrics-bind-address="+n.lab.Host()+":10249",
		"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	if err != nil {
		return err
	}
	return daemon.Wait(ctx, "kube-proxy has written its rules", 30*time.Second, func() bool {
		answer, err := http.Get("http://" + address + "/livez")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// run starts one of Kubernetes' components.
func (n *Node) run(name string, args ...string) (*lab.Daemon, error) {
	return n.lab.StartDaemon(name, exec.Command(filepath.Join(n.lab.Assets(), name), args...))
}
