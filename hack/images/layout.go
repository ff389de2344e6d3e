package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	sbomType = "application/vnd.cyclonedx+json"
	// emptyType is the configuration of what is no image.
	emptyType = "application/vnd.oci.empty.v1+json"
	// imageName is the whole name for containerd, whose ref.name is only the tag.
	imageName = "io.containerd.image.name"
	refName   = labels + "ref.name"
	// layoutFile marks a directory as an OCI layout.
	layoutFile = "oci-layout"
)

// built is the image of one platform and what is in it.
type built struct {
	arch  string
	image v1.Image
	sbom  []byte
}

// writeLayout writes one image of several platforms, and the SBOMs that refer to it, as
// an OCI layout. What was in the directory before is gone: old blobs would be packed too.
func writeLayout(dir string, s *spec, r *release, platforms []built) (v1.Hash, error) {
	if err := clearLayout(dir); err != nil {
		return v1.Hash{}, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: p.image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: p.arch}},
		})
	}
	annotated, ok := mutate.Annotations(index, r.labels(s)).(v1.ImageIndex)
	if !ok {
		return v1.Hash{}, fmt.Errorf("annotating the index of %s gave no index", s.name)
	}
	digest, err := annotated.Digest()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("digesting the index: %w", err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("writing %s: %w", dir, err)
	}
	err = path.AppendIndex(annotated, layout.WithAnnotations(map[string]string{imageName: s.reference(r.version), refName: r.version}))
	if err != nil {
		return v1.Hash{}, fmt.Errorf("writing the images into %s: %w", dir, err)
	}
	for _, p := range platforms {
		if err := attach(path, p, r.created); err != nil {
			return v1.Hash{}, fmt.Errorf("attaching the SBOM of linux/%s: %w", p.arch, err)
		}
	}
	return digest, nil
}

// clearLayout removes the last build's layout, and nothing else: -out may be mistyped.
func clearLayout(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) { //nolint:gosec // the directory is in -out
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, layoutFile)); err != nil { //nolint:gosec // the same directory
		return fmt.Errorf("%s is there and is no OCI layout, so it is left alone; name another -out: %w", dir, err)
	}
	if err := os.RemoveAll(dir); err != nil { //nolint:gosec // the directory is the one of -out, and a layout
		return fmt.Errorf("clearing the last build's layout: %w", err)
	}
	return nil
}

// attach writes an SBOM as an artifact whose subject is the image, as registries and
// their clients look for it.
func attach(path layout.Path, p built, created time.Time) error {
	subject, err := partial.Descriptor(p.image)
	if err != nil {
		return fmt.Errorf("describing the image: %w", err)
	}
	config, err := blob(path, emptyType, []byte("{}"))
	if err != nil {
		return err
	}
	layer, err := blob(path, sbomType, p.sbom)
	if err != nil {
		return err
	}
	annotations := map[string]string{labels + "created": created.Format(time.RFC3339)}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: sbomType, Annotations: annotations,
		Config: config, Layers: []v1.Descriptor{layer},
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Size: subject.Size, Digest: subject.Digest},
	})
	if err != nil {
		return fmt.Errorf("writing the artifact's manifest: %w", err)
	}
	descriptor, err := blob(path, types.OCIManifestSchema1, manifest)
	if err != nil {
		return err
	}
	descriptor.ArtifactType, descriptor.Annotations = sbomType, annotations
	if err := path.AppendDescriptor(descriptor); err != nil {
		return fmt.Errorf("listing the artifact: %w", err)
	}
	return nil
}

func blob(path layout.Path, media types.MediaType, content []byte) (v1.Descriptor, error) {
	digest, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("digesting a blob: %w", err)
	}
	if err := path.WriteBlob(digest, io.NopCloser(bytes.NewReader(content))); err != nil {
		return v1.Descriptor{}, fmt.Errorf("writing the blob %s: %w", digest, err)
	}
	return v1.Descriptor{MediaType: media, Size: size, Digest: digest}, nil
}

// archive packs a layout into a tar, in the order of the names.
func archive(dir, output string, when time.Time) (err error) {
	out, err := os.Create(output) //nolint:gosec // the file is in -out
	if err != nil {
		return fmt.Errorf("creating the tar: %w", err)
	}
	defer func() {
		if closing := out.Close(); err == nil && closing != nil {
			err = fmt.Errorf("closing %s: %w", output, closing)
		}
	}()
	var names []string
	tree := os.DirFS(dir)
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listing %s: %w", dir, err)
	}
	// The two files that say what it is come first: a reader of a stream needs them.
	first := []string{layoutFile, "index.json"}
	rest := slices.DeleteFunc(names, func(name string) bool { return slices.Contains(first, name) })
	w := tar.NewWriter(out)
	for _, name := range slices.Concat(first, rest) {
		content, err := fs.ReadFile(tree, name)
		if err != nil {
			return fmt.Errorf("reading %s: %w", filepath.Join(dir, name), err)
		}
		if err := entry(w, name, 0o444, when, content); err != nil {
			return fmt.Errorf("packing %s: %w", output, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", output, err)
	}
	return nil
}
