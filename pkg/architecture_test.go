// Package pkg_test holds the arrows between the packages.
package pkg_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/bucket-access/bucket-access-webhook/pkg/"

// order is the direction of imports: a package imports only what stands before it.
var order = []string{
	"api/v1alpha1", "iam", "diagnosis", "patch", "manifest", "policy", "decide", "inject", "admission", "serving", "installation", "metrics", "watch", "certs", "reconcile",
	"reader", "status", "doctor", "cli",
}

// pure packages have no client, no clock, no logger, no counter.
var pure = []string{"api/v1alpha1", "iam", "diagnosis", "patch", "manifest", "policy", "decide", "inject"}

func TestImportsPointOneWay(t *testing.T) {
	for i, name := range order {
		for _, imported := range imports(t, name) {
			if inside, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(order[:i], inside) {
				t.Errorf("pkg/%s imports pkg/%s, against the direction of data", name, inside)
			}
			if name == "patch" && strings.HasPrefix(imported, module) {
				t.Errorf("pkg/patch stands alone, but imports %s", imported)
			}
			for _, impure := range []string{
				"k8s.io/client-go", "sigs.k8s.io/controller-runtime", "github.com/prometheus", "github.com/go-logr", "log", "log/slog", "time", "context", "net/http",
			} {
				clock := name == "policy" && imported == "time" // the type of a ConfigMap's age
				if slices.Contains(pure, name) && !clock && (imported == impure || strings.HasPrefix(imported, impure+"/")) {
					t.Errorf("pkg/%s is pure, but imports %s", name, imported)
				}
			}
			if aws := "github.com/aws/aws-sdk-go-v2"; slices.Contains(pure, name) && strings.HasPrefix(imported, aws) && imported != aws+"/aws/arn" {
				t.Errorf("pkg/%s is pure, but imports %s", name, imported)
			}
		}
	}
}

func TestEveryPackageIsInTheOrder(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, entry os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "/doc.go") && !slices.Contains(order, filepath.Dir(path)) {
			t.Errorf("pkg/%s has no place in the order", filepath.Dir(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// imports lists what the package's own files, without tests, import.
func imports(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(name), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("pkg/%s: no files (%v)", name, err)
	}
	var found []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			found = append(found, path)
		}
	}
	return found
}
