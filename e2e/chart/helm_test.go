// Package chart tests charts/bucket-access-webhook by rendering it, with Helm 4 and Helm 3.
package chart

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	directory = root + "/charts/bucket-access-webhook"
	release   = "bucket-access"
	namespace = "bucket-access-system"
	name      = "bucket-access-webhook"
)

// helms are the programs that the chart is held to: Helm 4 and Helm 3.
func helms() []string { return []string{"helm", "helm3"} }

// run runs a Helm with YAML values and returns what it printed; the error has what it complained of.
func run(t *testing.T, program, values string, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(root, "bin", program)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is missing; build it with: make helm", path)
	}
	var out, failed bytes.Buffer
	command := exec.CommandContext(t.Context(), path, append(args, "--values", "-")...)
	command.Stdin = strings.NewReader(values)
	command.Stdout, command.Stderr = &out, &failed
	// No cluster may be asked: what is rendered depends on values and version alone.
	command.Env = append(os.Environ(), "KUBECONFIG=/dev/null")
	if err := command.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, failed.String())
	}
	return out.String(), nil
}

// render renders the chart and returns the text.
func render(t *testing.T, helm, kube, text string) string {
	t.Helper()
	out, err := run(t, helm, text, "template", release, directory, "--namespace", namespace, "--kube-version", kube)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// objects are the documents of a rendering, each decoded strictly into its type where
// client-go has one; the other kinds are a closed list.
func objects(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		object := map[string]any{}
		if err := sigsyaml.UnmarshalStrict(document, &object); err != nil {
			t.Fatalf("not YAML without repeated keys: %v\n%s", err, document)
		}
		if len(object) == 0 {
			continue
		}
		one := &unstructured.Unstructured{Object: object}
		if err := strict(one.GroupVersionKind(), document); err != nil {
			t.Errorf("%s %s: %v\n%s", one.GetKind(), one.GetName(), err, document)
		}
		all = append(all, one)
	}
}

func strict(gvk schema.GroupVersionKind, document []byte) error {
	typed, err := scheme.Scheme.New(gvk)
	if err == nil {
		return sigsyaml.UnmarshalStrict(document, typed)
	}
	for _, known := range []schema.GroupVersionKind{
		{Group: "cert-manager.io", Version: "v1", Kind: "Certificate"}, {Group: "cert-manager.io", Version: "v1", Kind: "Issuer"},
		{Group: "monitoring.coreos.com", Version: "v1", Kind: "ServiceMonitor"}, {Group: "monitoring.coreos.com", Version: "v1", Kind: "PodMonitor"},
		{Group: "monitoring.coreos.com", Version: "v1", Kind: "PrometheusRule"},
	} {
		if reflect.DeepEqual(gvk, known) {
			return nil
		}
	}
	return err
}

// find returns the one object of a kind and name, or nil.
func find(all []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	for _, object := range all {
		if object.GetKind() == kind && object.GetName() == name {
			return object
		}
	}
	return nil
}
