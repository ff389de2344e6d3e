package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/rs/zerolog"
	"golang.org/x/mod/modfile"

	"github.com/bucket-access/bucket-access-webhook/hack/images/roots"
)

// goMod pins the certificates, and says in the SBOM which are in the image.
//
//go:embed go.mod
var goMod []byte

// billOf reads the modules out of a binary. It has neither a time nor a serial number:
// both would make each build another one.
func billOf(binary, version string, certificates []byte) ([]byte, error) {
	generator, err := bin.NewGenerator(binary, bin.WithVersionOverride(version), bin.WithIncludeStdlib(true), bin.WithLogger(zerolog.Nop()))
	if err != nil {
		return nil, fmt.Errorf("preparing the SBOM: %w", err)
	}
	bill, err := generator.Generate()
	if err != nil {
		return nil, fmt.Errorf("reading the modules of %s: %w", binary, err)
	}
	if certificates != nil {
		component, err := certificatesComponent(certificates)
		if err != nil {
			return nil, err
		}
		*bill.Components = append(*bill.Components, component)
	}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).Encode(bill); err != nil {
		return nil, fmt.Errorf("writing the SBOM: %w", err)
	}
	return out.Bytes(), nil
}

// certificatesComponent is the file of certificates, which no binary knows of.
func certificatesComponent(content []byte) (cdx.Component, error) {
	pinned, err := modfile.ParseLax("go.mod", goMod, nil)
	if err != nil {
		return cdx.Component{}, fmt.Errorf("reading the pinned modules: %w", err)
	}
	for _, required := range pinned.Require {
		if required.Mod.Path != roots.Module {
			continue
		}
		sum := sha256.Sum256(content)
		purl := "pkg:golang/" + roots.Module + "@" + required.Mod.Version + "?type=module"
		return cdx.Component{
			BOMRef: purl, PackageURL: purl, Type: cdx.ComponentTypeData, Name: roots.Module, Version: required.Mod.Version,
			Description: "Certificate authorities, as " + certificatesPath,
			Hashes:      &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		}, nil
	}
	return cdx.Component{}, fmt.Errorf("go.mod does not require %s, which the certificates are from", roots.Module)
}
