// Package certs is where the serving certificate comes from: a Source, chosen once
// at start. Files is the one for cert-manager and for certificates from elsewhere;
// a managed one takes its place behind the same interface.
package certs
