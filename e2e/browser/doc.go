// Package browser tests the reader's page as a person meets it: in a real browser, with a
// reader that the webhook has injected, and with a real STS and S3 behind it. It is a
// module of its own so that the product's go.mod stays small.
package browser
