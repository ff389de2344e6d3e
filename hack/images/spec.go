package main

import (
	"path"
	"strings"
	"time"
)

const (
	module     = "github.com/bucket-access/bucket-access-webhook"
	registry   = "ghcr.io/bucket-access/"
	repository = "https://" + module
	user       = "65532:65532"
	labels     = "org.opencontainers.image."
	// certificatesPath is the first place where crypto/x509 looks on Linux.
	certificatesPath = "/etc/ssl/certs/ca-certificates.crt"
)

// spec is what sets one image apart from another.
type spec struct {
	name, title, description string
	ports                    []string
	// certificates says that the program calls servers on the Internet.
	certificates bool
}

var specs = []spec{
	{
		name: "bucket-access-webhook", title: "bucket-access-webhook",
		description: "Mutating admission webhook: one label, and a Pod reads an S3 bucket of another AWS account",
		ports:       []string{"9443/tcp", "8080/tcp", "8081/tcp"},
	},
	{
		name: "bucket-access-reader", title: "bucket-access-reader",
		description:  "Demo reader: proves that a Pod reads its bucket without static keys, or says what stands in the way",
		ports:        []string{"21840/tcp"},
		certificates: true,
	},
}

// target is the stage of the Dockerfile, and the short name on the command line.
func (s *spec) target() string { return strings.TrimPrefix(s.name, "bucket-access-") }

func (s *spec) binary() string { return "/" + s.name }

func (s *spec) reference(version string) string { return registry + s.name + ":" + version }

// release is what all images of one build have in common.
type release struct {
	version, revision string
	created           time.Time
}

func (r *release) labels(s *spec) map[string]string {
	return map[string]string{
		labels + "title":       s.title,
		labels + "description": s.description,
		labels + "source":      repository,
		labels + "url":         repository,
		labels + "version":     r.version,
		labels + "revision":    r.revision,
		labels + "created":     r.created.Format(time.RFC3339),
		labels + "licenses":    "Apache-2.0",
	}
}

// file is one file of an image; each has a layer of its own, as with COPY.
type file struct {
	path    string
	mode    int64
	content []byte
}

// parents are the directories above a file, outermost first.
func (f *file) parents() []string {
	var dirs []string
	for dir := path.Dir(f.path); dir != "/"; dir = path.Dir(dir) {
		dirs = append([]string{dir}, dirs...)
	}
	return dirs
}
