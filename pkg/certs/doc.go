// Package certs is where the serving certificate comes from: a Source, chosen once at
// start. Files follows the files of cert-manager or of anybody else. Managed makes CA and
// certificate itself, with cert-manager's library, and writes the CA into the webhook
// configurations such that no API server ever meets a certificate that it does not trust yet.
package certs
