package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	jsonpatch "github.com/evanphx/json-patch/v5"
	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

// Patch is the document with the operations applied. Lines that no operation touches stay
// as they are, comments and order too. Where that can't be done (anchors and aliases,
// JSON), kept is false and the document is written anew from its content. Lines end as
// the document's do.
func (d Document) Patch(operations []patch.Operation) (out []byte, kept bool, err error) {
	if n := bytes.Count(d.Body, []byte("\n")); n > 0 && n == bytes.Count(d.Body, []byte("\r\n")) {
		head, tail := d.Head, d.Tail
		d.Head, d.Body, d.Tail = nil, bytes.ReplaceAll(d.Body, []byte("\r\n"), []byte("\n")), nil
		out, kept, err = d.patch(operations)
		return bytes.Join([][]byte{head, bytes.ReplaceAll(out, []byte("\n"), []byte("\r\n")), tail}, nil), kept, err
	}
	return d.patch(operations)
}

func (d Document) patch(operations []patch.Operation) (out []byte, kept bool, err error) {
	before, err := d.JSON()
	if err != nil {
		return nil, false, err
	}
	wanted, err := PatchJSON(before, operations)
	if err != nil {
		return nil, false, err
	}
	head := d.Head
	if isMarker(d.Body, "---") {
		head = append(bytes.Clone(head), "---\n"...)
	}
	for _, body := range d.candidates(operations) {
		if same(body, wanted) {
			return bytes.Join([][]byte{head, body, d.Tail}, nil), true, nil
		}
	}
	body, err := yaml.JSONToYAML(wanted)
	if err == nil && bytes.HasPrefix(d.Body, []byte("{")) {
		var indented bytes.Buffer
		err = json.Indent(&indented, wanted, "", "  ")
		body = append(indented.Bytes(), '\n')
	}
	if err != nil {
		return nil, false, fmt.Errorf("writing the document anew: %w", err)
	}
	return bytes.Join([][]byte{head, body, d.Tail}, nil), false, nil
}

// PatchJSON applies the operations to JSON, as an API server does.
func PatchJSON(document []byte, operations []patch.Operation) ([]byte, error) {
	decoded, err := jsonpatch.DecodePatch(patch.Append(nil, operations))
	if err != nil {
		return nil, fmt.Errorf("reading the patch: %w", err)
	}
	out, err := decoded.Apply(document)
	if err != nil {
		return nil, fmt.Errorf("applying the patch: %w", err)
	}
	return out, nil
}

// same says whether the YAML holds what the JSON does.
func same(text, wanted []byte) bool {
	got, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return false
	}
	var a, b any
	return json.Unmarshal(got, &a) == nil && json.Unmarshal(wanted, &b) == nil && reflect.DeepEqual(a, b)
}

// candidates are the patched body in the order of preference: what changes merged into
// the lines as they were written, and the whole as a YAML encoder writes it.
func (d Document) candidates(operations []patch.Operation) [][]byte {
	before, tree, err := reencode(d.Body, nil)
	if err != nil || bytes.HasPrefix(d.Body, []byte("{")) || hasAlias(tree) {
		return nil
	}
	after, _, err := reencode(d.Body, operations)
	if err != nil {
		return nil
	}
	if merged, ok := merge(d.Body, before, after); ok {
		return [][]byte{merged, after}
	}
	return [][]byte{after}
}

func reencode(body []byte, operations []patch.Operation) ([]byte, *yamlv3.Node, error) {
	var tree yamlv3.Node
	if err := yamlv3.Unmarshal(body, &tree); err != nil {
		return nil, nil, err
	}
	if len(tree.Content) != 1 {
		return nil, nil, errors.New("no document")
	}
	indent, compact := layout(tree.Content[0])
	for _, operation := range operations {
		if err := apply(tree.Content[0], operation); err != nil {
			return nil, nil, err
		}
	}
	var out bytes.Buffer
	encoder := yamlv3.NewEncoder(&out)
	encoder.SetIndent(indent)
	if compact {
		encoder.CompactSeqIndent()
	}
	if err := encoder.Encode(&tree); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), &tree, encoder.Close()
}

func hasAlias(node *yamlv3.Node) bool {
	if node.Kind == yamlv3.AliasNode || node.Anchor != "" {
		return true
	}
	for _, part := range node.Content {
		if hasAlias(part) {
			return true
		}
	}
	return false
}

// layout is how the document is indented, as its first nested object and list show.
func layout(root *yamlv3.Node) (indent int, compact bool) {
	indent, compact = 2, true
	objects, lists := false, false
	var walk func(*yamlv3.Node)
	walk = func(node *yamlv3.Node) {
		for i := 0; node.Kind == yamlv3.MappingNode && i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			if len(value.Content) == 0 || value.Style&yamlv3.FlowStyle != 0 {
				continue
			}
			deeper := value.Column - key.Column
			if value.Kind == yamlv3.MappingNode && !objects && deeper > 1 && deeper < 10 {
				indent, objects = deeper, true
			}
			if value.Kind == yamlv3.SequenceNode && !lists {
				compact, lists = deeper == 0, true
			}
		}
		for _, part := range node.Content {
			walk(part)
		}
	}
	walk(root)
	return indent, compact
}
