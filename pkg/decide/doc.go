// Package decide answers which policy applies to a Pod or a ServiceAccount, and
// why: a request's few facts and a snapshot of policies in, a Verdict out.
//
// Place in the flow: admission reads the facts, inject carries out an Inject
// verdict and turns conflicts that it finds into a refusal of this package.
package decide
