// Package diagnosis turns what goes wrong between a Pod and a bucket into a cause and a
// fix: the token's own claims, and the answers of STS and S3 as AWS documents them. A
// value in, a value out; it calls nothing and reads no clock.
// Place in the flow: pkg/reader collects facts and answers, and shows the diagnosis.
package diagnosis
