// Package v1alpha1 is the vocabulary of the project: the names of labels,
// annotations and environment variables, and the policy document that people
// write. It holds no behaviour but defaults, and imports nothing of the project.
package v1alpha1
