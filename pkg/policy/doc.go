// Package policy turns ConfigMaps into policies and answers which policy has a
// name. A policy that is in force is immutable; a Snapshot of all of them is
// built whole from what the cluster holds and swapped atomically, so that a
// request sees one state from beginning to end.
//
// Place in the flow: pkg/watch feeds it, pkg/decide asks it.
package policy
