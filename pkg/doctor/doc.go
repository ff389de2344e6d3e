// Package doctor walks the chain from the API server to the object in the bucket and
// stops guessing at the first red link. It only reads: Pods are tried by server-side dry
// run, and of the token that a live check asks for nothing is kept or shown.
package doctor
