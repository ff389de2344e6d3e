// Package watch brings the cluster's state to where requests are answered: policy
// ConfigMaps into the store, and names, labels and a few annotations of Namespaces
// and ServiceAccounts into a cache that holds nothing else. It runs on every
// replica.
package watch
