package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

func TestTheBillNamesTheModulesAndIsAttachedToItsImage(t *testing.T) {
	wants := map[string][]string{
		"bucket-access-webhook": {"sigs.k8s.io/controller-runtime", "k8s.io/api", "std"},
		"bucket-access-reader":  {"github.com/aws/aws-sdk-go-v2/service/s3", "golang.org/x/crypto/x509roots/fallback"},
	}
	for _, s := range specs {
		_, listed := index(t, &s)
		for platform, image := range platformImages(t, &s) {
			content, err := os.ReadFile(filepath.Join(images(t), s.name+"-"+strings.ReplaceAll(platform, "/", "-")+".cdx.json"))
			if err != nil {
				t.Fatal(err)
			}
			checkBill(t, s.name, content, wants[s.name])
			if attached := attachedTo(t, &s, image, listed); !bytes.Equal(attached, content) {
				t.Errorf("%s %s: what is attached is not the SBOM beside", s.name, platform)
			}
		}
	}
}

func checkBill(t *testing.T, name string, content []byte, wants []string) {
	t.Helper()
	var bill cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(content), cdx.BOMFileFormatJSON).Decode(&bill); err != nil {
		t.Fatal(err)
	}
	if bill.SerialNumber != "" || bill.Metadata.Timestamp != "" {
		t.Errorf("%s: the SBOM has the serial number %q and the time %q", name, bill.SerialNumber, bill.Metadata.Timestamp)
	}
	if main := bill.Metadata.Component; main.Name != module || main.Version != testVersion {
		t.Errorf("%s: the SBOM is of %s %s", name, main.Name, main.Version)
	}
	for _, want := range wants {
		if !slices.ContainsFunc(*bill.Components, func(c cdx.Component) bool { return c.Name == want && c.Version != "" }) {
			t.Errorf("%s: the SBOM lacks %s", name, want)
		}
	}
}

func attachedTo(t *testing.T, s *spec, image v1.Image, listed []v1.Descriptor) []byte {
	t.Helper()
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	path := layout.Path(filepath.Join(images(t), s.name))
	for _, d := range listed {
		if d.ArtifactType != "application/vnd.cyclonedx+json" {
			continue
		}
		raw, err := path.Bytes(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		var manifest v1.Manifest
		if err := json.Unmarshal(raw, &manifest); err != nil {
			t.Fatal(err)
		}
		if manifest.Subject.Digest != digest {
			continue
		}
		content, err := path.Bytes(manifest.Layers[0].Digest)
		if err != nil || manifest.ArtifactType != d.ArtifactType {
			t.Fatal(err, manifest.ArtifactType)
		}
		return content
	}
	t.Fatalf("%s: no artifact refers to %s", s.name, digest)
	return nil
}
