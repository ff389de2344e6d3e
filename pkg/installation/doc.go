// Package installation looks at an installed webhook from outside, as a client of the
// API server: helm test and kubectl bucket-access doctor ask it the same questions.
package installation
