package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// withoutSBOMs has the archives of the product's images in a directory list only images.
// kind imports what an archive lists with ctr's --digests, and with that containerd 1, of
// older node images, takes an SBOM for one more image and fails to unpack it.
func withoutSBOMs(directory string) error {
	archives, err := filepath.Glob(filepath.Join(directory, "bucket-access-*.tar"))
	if err != nil || len(archives) == 0 {
		return fmt.Errorf("no images of the product in %s: %w", directory, err)
	}
	for _, archive := range archives {
		content, err := os.ReadFile(archive) //nolint:gosec // the directory is an argument
		if err != nil {
			return fmt.Errorf("reading the image: %w", err)
		}
		listed, err := withoutArtifacts(content)
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if err := os.WriteFile(archive, listed, 0o644); err != nil { //nolint:gosec // as readable as it was
			return fmt.Errorf("writing the image: %w", err)
		}
	}
	return nil
}

// withoutArtifacts takes what is no image out of an OCI archive's index. Their blobs stay,
// as nothing refers to them; an import leaves them out.
func withoutArtifacts(archive []byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	found := false
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking: %w", err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", header.Name, err)
		}
		if header.Name == "index.json" {
			if content, err = imagesOf(content); err != nil {
				return nil, err
			}
			header.Size, found = int64(len(content)), true
		}
		if err = w.WriteHeader(header); err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", header.Name, err)
		}
	}
	if !found {
		return nil, errors.New("no index.json: this is no OCI archive")
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("packing: %w", err)
	}
	return out.Bytes(), nil
}

func imagesOf(document []byte) ([]byte, error) {
	var index v1.IndexManifest
	if err := json.Unmarshal(document, &index); err != nil {
		return nil, fmt.Errorf("reading index.json: %w", err)
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d v1.Descriptor) bool { return d.ArtifactType != "" })
	images, err := json.Marshal(index)
	if err != nil {
		return nil, fmt.Errorf("writing index.json: %w", err)
	}
	return images, nil
}
