// Package status tells who can read what: policies with their ServiceAccounts and Pods,
// and the Pods that are not as their policy says. It reads one list of each kind and
// judges by the very code that the webhook judges by.
package status
