// Package node is the node lane: it joins a kubelet, scheduler, controller-manager and
// kube-proxy to a lab's control plane, with containerd and runc, so that real Pods run on
// this machine. Everything lives in the lab's own network, process and mount namespaces:
// the machine's addresses, routes, firewall and ports stay as they are.
package node
