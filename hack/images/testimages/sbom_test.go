package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const listing = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[` +
	`{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"digest":"sha256:` + imageDigest + `",` +
	`"annotations":{"io.containerd.image.name":"a.test/b:c"}}`

const imageDigest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

const artifact = `,{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha256:` +
	`e0533304aa96dc2b77f9d91278abe683b32ef580418a0c002836654fe7a5f6d7","artifactType":"application/vnd.cyclonedx+json"}`

// TestWithoutSBOMs: the image stays as it was listed, and every other file byte by byte.
func TestWithoutSBOMs(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "bucket-access-reader.tar")
	if err := os.WriteFile(path, archive(t, "oci-layout", "{}", "index.json", listing+artifact+"]}", "blobs/sha256/"+imageDigest, "{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := "oci-layout {}\nindex.json " + listing + "]}\nblobs/sha256/" + imageDigest + " {}\n"
	for _, what := range []string{"the first time", "again"} {
		if err := withoutSBOMs(directory); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := files(t, content); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
		}
	}
}

func TestWithoutSBOMsRefuses(t *testing.T) {
	if err := withoutSBOMs(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no images of the product") {
		t.Errorf("a directory without images: %v", err)
	}
	for what, content := range map[string][]byte{
		"no index.json": archive(t, "manifest.json", "[]"), "index.json": archive(t, "index.json", "["), "unpacking": []byte("no tar, however long it may be"),
	} {
		if _, err := withoutArtifacts(content); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("the error is %v, want a part of it %q", err, what)
		}
	}
}

func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o444, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func files(t *testing.T, archive []byte) string {
	t.Helper()
	var out strings.Builder
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out.WriteString(header.Name + " " + string(content) + "\n")
	}
}
