// Package serving is the TLS server in front of the admission handlers, which everything in
// a cluster's network can reach. It takes the place of controller-runtime's, which can't be
// given limits: connections are bounded and shared fairly between the addresses they come
// from, nobody holds one without a request for long, and what strangers do fills no log.
package serving
