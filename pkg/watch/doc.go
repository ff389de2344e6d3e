// Package watch brings the cluster's state to where requests are answered: policy
// ConfigMaps into the store, and of Namespaces, ServiceAccounts and Pods into indexes
// what decides, which is a small part of their metadata. It runs on every replica, but
// for Pods, which the leader alone counts.
package watch
