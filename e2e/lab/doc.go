// Package lab is a real Kubernetes control plane on this machine with the webhook
// installed from manifests/ as they are, for the end-to-end suite and the demo. The
// API server reaches the webhook by its Service; the webhook runs as processes with
// the access of its own ServiceAccount. There is no node: Pods are created, not run.
package lab
