// Package inject works out what a Pod or a ServiceAccount must look like so that a
// policy is in force on it: a view of the object, a verdict and a few facts in; a
// plan of edits, or a refusal, out. The webhook, render and the golden tests all
// call the same functions.
//
// The rules make the result the same in any order with EKS's own
// pod-identity-webhook and however often it runs: what we or EKS wrote is
// replaced, what a user wrote is kept or refused, and nothing is written twice.
//
// Place in the flow: decide gives the verdict, patch carries the plan.
package inject
