// Package reader is the demo reader: it proves that a Pod can read its bucket with the
// policy's role and nothing else, or says what stands in the way and what mends it.
//
// The chain (environment, token, STS, role, bucket) is walked by Chain, whose last
// Report is what /readyz, the page and the check command show; /s3/ streams objects and
// lists them. Every failure goes through pkg/diagnosis.
package reader
