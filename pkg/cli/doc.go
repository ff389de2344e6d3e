// Package cli holds the commands of the kubectl plugin: one file a command. What they
// find out is found out elsewhere, by the very code that the webhook runs.
package cli
