// Package manifest reads and changes Kubernetes manifests as people keep them: streams of
// YAML documents with comments, blank lines and an order of their own. What nobody names
// stays byte for byte. It knows no Kubernetes kind; it stands beside patch, whose
// operations it applies.
package manifest
