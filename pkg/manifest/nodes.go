package manifest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/bucket-access/bucket-access-webhook/pkg/patch"
)

var unescaper = strings.NewReplacer("~1", "/", "~0", "~")

// apply applies one operation to a tree of YAML nodes.
func apply(root *yamlv3.Node, operation patch.Operation) error {
	tokens := strings.Split(string(operation.Path), "/")
	if len(tokens) < 2 || tokens[0] != "" {
		return fmt.Errorf("%q is no pointer into an object", operation.Path)
	}
	at := root
	for _, token := range tokens[1 : len(tokens)-1] {
		if at = child(at, unescaper.Replace(token)); at == nil {
			return fmt.Errorf("there is no %q of %s", token, operation.Path)
		}
	}
	last := unescaper.Replace(tokens[len(tokens)-1])
	if operation.Value == nil {
		return remove(at, last)
	}
	value, err := nodeOf(operation.Value)
	if err != nil {
		return err
	}
	return add(at, last, value)
}

// LineAt is the line of what a pointer names, or of the nearest that holds it.
func LineAt(root *yamlv3.Node, pointer patch.Pointer) int {
	at, line := Resolve(root), root.Line
	for _, token := range strings.Split(string(pointer), "/")[1:] {
		name := unescaper.Replace(token)
		next := child(at, name)
		if next == nil {
			break
		}
		line = next.Line
		if i := keyIndex(at, name); at.Kind == yamlv3.MappingNode && i >= 0 {
			line = at.Content[i].Line
		}
		at = Resolve(next)
	}
	return line
}

func child(at *yamlv3.Node, token string) *yamlv3.Node {
	switch at.Kind {
	case yamlv3.MappingNode:
		if i := keyIndex(at, token); i >= 0 {
			return at.Content[i+1]
		}
	case yamlv3.SequenceNode:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(at.Content) {
			return at.Content[i]
		}
	default:
	}
	return nil
}

func keyIndex(at *yamlv3.Node, key string) int {
	for i := 0; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == key {
			return i
		}
	}
	return -1
}

func add(at *yamlv3.Node, token string, value *yamlv3.Node) error {
	if len(at.Content) == 0 {
		at.Style &^= yamlv3.FlowStyle // an empty {} or [] was written so for want of a block
	}
	switch at.Kind {
	case yamlv3.MappingNode:
		if i := keyIndex(at, token); i >= 0 {
			at.Content[i+1] = value
			return nil
		}
		key := &yamlv3.Node{Kind: yamlv3.ScalarNode, Tag: "!!str", Value: token}
		key.Style = styleOf(token)
		at.Content = append(at.Content, key, value)
		return nil
	case yamlv3.SequenceNode:
		i, err := strconv.Atoi(token)
		switch {
		case token == "-":
			at.Content = append(at.Content, value)
			return nil
		case err == nil && i >= 0 && i <= len(at.Content):
			at.Content = slices.Insert(at.Content, i, value)
			return nil
		}
	default:
	}
	return fmt.Errorf("nothing can be added at %q", token)
}

func remove(at *yamlv3.Node, token string) error {
	switch at.Kind {
	case yamlv3.MappingNode:
		if i := keyIndex(at, token); i >= 0 {
			at.Content = slices.Delete(at.Content, i, i+2)
			return nil
		}
	case yamlv3.SequenceNode:
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(at.Content) {
			at.Content = slices.Delete(at.Content, i, i+1)
			return nil
		}
	default:
	}
	return fmt.Errorf("there is no %q to remove", token)
}

// nodeOf is a JSON value as people write it in YAML: blocks, and quotes only where they
// are needed.
func nodeOf(value []byte) (*yamlv3.Node, error) {
	var document yamlv3.Node
	if err := yamlv3.Unmarshal(value, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 {
		return nil, fmt.Errorf("%.80q is no JSON value", value)
	}
	var restyle func(*yamlv3.Node)
	restyle = func(node *yamlv3.Node) {
		node.Style = 0
		if node.Kind == yamlv3.ScalarNode && node.Tag == "!!str" {
			node.Style = styleOf(node.Value)
		} else if len(node.Content) == 0 {
			node.Style = yamlv3.FlowStyle
		}
		for _, part := range node.Content {
			restyle(part)
		}
	}
	restyle(document.Content[0])
	return document.Content[0], nil
}

// styleOf says whether a text needs quotes. kubectl reads YAML 1.1, where yes and on are
// no texts; so it is asked.
func styleOf(text string) yamlv3.Style {
	var read any
	if err := yaml.Unmarshal([]byte(text), &read); err == nil && read == any(text) {
		return 0
	}
	if strings.Contains(text, `"`) && !strings.ContainsAny(text, "\n\r\t") {
		return yamlv3.SingleQuotedStyle
	}
	return yamlv3.DoubleQuotedStyle
}
