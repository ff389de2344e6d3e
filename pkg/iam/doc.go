// Package iam holds the parts of AWS's language that a policy is written in, as
// types whose constructors check: below them nobody checks a string again.
// Place in the flow: pkg/policy parses documents into these types.
package iam
