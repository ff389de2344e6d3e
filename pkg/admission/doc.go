// Package admission is the wire: it reads an AdmissionReview in one strict pass,
// asks decide and inject, and writes the answer. One file for each resource.
//
// Anyone who reaches the Service can post here, so nothing that arrives is trusted
// to be an API server's: bodies are bounded, malformed ones get a 4xx, answers name
// no other team, and nothing of an object is ever logged.
//
// Place in the flow: the first and the last station of a request.
package admission
