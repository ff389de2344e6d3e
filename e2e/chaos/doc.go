// Package chaos creates Pods without pause while replicas, API server, etcd, connections,
// certificates and policies break one after the other and at random: make chaos.
package chaos
