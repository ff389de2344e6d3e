package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pack makes the image of one platform: nothing but the files, on no base.
func pack(s *spec, r *release, arch string, files []file) (v1.Image, error) {
	created := v1.Time{Time: r.created}
	base, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: created,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
		Config: v1.Config{User: user, Entrypoint: []string{s.binary()}, ExposedPorts: exposed(s), Labels: r.labels(s)},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	var layers []mutate.Addendum
	for i := range files {
		layer, err := layerOf(&files[i], r.created)
		if err != nil {
			return nil, fmt.Errorf("packing %s: %w", files[i].path, err)
		}
		layers = append(layers, mutate.Addendum{
			Layer: layer, MediaType: types.OCILayer,
			History: v1.History{Created: created, CreatedBy: "COPY " + files[i].path},
		})
	}
	image, err := mutate.Append(base, layers...)
	if err != nil {
		return nil, fmt.Errorf("adding the layers: %w", err)
	}
	return image, nil
}

func exposed(s *spec) map[string]struct{} {
	ports := map[string]struct{}{}
	for _, port := range s.ports {
		ports[port] = struct{}{}
	}
	return ports
}

// layerOf is a file and the directories above it, with nothing in the headers that the
// machine or the hour would change.
func layerOf(f *file, when time.Time) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range f.parents() {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: 0o755, ModTime: when}); err != nil {
			return nil, fmt.Errorf("writing the directory %s: %w", dir, err)
		}
	}
	if err := entry(w, f.path[1:], f.mode, when, f.content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("closing the layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(out.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("compressing the layer: %w", err)
	}
	return layer, nil
}

func entry(w *tar.Writer, name string, mode int64, when time.Time, content []byte) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: when}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("writing the header of %s: %w", name, err)
	}
	if _, err := w.Write(content); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
