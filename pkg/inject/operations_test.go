package inject

import (
	"slices"
	"testing"

	"github.com/bucket-access/bucket-access-webhook/pkg/decide"
	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// TestOnePlanIsOnePatch: annotations come in the order of their keys, so that audit logs compare.
func TestOnePlanIsOnePatch(t *testing.T) {
	t.Parallel()
	edits := map[string]decide.Label{"a": {Value: "1", Set: true}, "b": {}, "c": {Value: "3", Set: true}, "d": {}, "e": {Value: "5", Set: true}}
	for range 20 {
		var paths []patch.Pointer
		for _, operation := range AnnotationOperations(true, edits) {
			paths = append(paths, operation.Path)
		}
		want := []patch.Pointer{"/metadata/annotations/a", "/metadata/annotations/b", "/metadata/annotations/c", "/metadata/annotations/d", "/metadata/annotations/e"}
		if !slices.Equal(paths, want) {
			t.Fatalf("%v", paths)
		}
	}
}
