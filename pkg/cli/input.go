package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/bucket-access/bucket-access-webhook/pkg/manifest"
)

// file is one file of manifests.
type file struct {
	name      string
	text      []byte
	documents []manifest.Document
}

// manifestExtensions are what is read of a directory, as kubectl does.
var manifestExtensions = []string{".yaml", ".yml", ".json"}

// readFiles reads the files, "-" once as the standard input, and the manifests of directories.
func (e *environment) readFiles(names []string) ([]file, error) {
	var files []file
	stdin := false
	for _, name := range names {
		if name == "-" {
			if stdin {
				return nil, errors.New("the standard input, -, can be read only once")
			}
			stdin = true
			text, err := io.ReadAll(e.In)
			if err != nil {
				return nil, fmt.Errorf("reading the standard input: %w", err)
			}
			files = append(files, file{"stdin", text, manifest.Split(text)})
			continue
		}
		paths, err := manifestsBelow(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			files = append(files, file{path, text, manifest.Split(text)})
		}
	}
	return files, nil
}

func manifestsBelow(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	var found []string
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains(manifestExtensions, filepath.Ext(path)) {
			found = append(found, path)
		}
		return err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("directory %s holds no file that ends in .yaml, .yml or .json", name)
	}
	return found, err
}

// required is the error of a flag that is missing.
func required(flag, example string) error {
	return fmt.Errorf("--%s is required, like %s", flag, example)
}
