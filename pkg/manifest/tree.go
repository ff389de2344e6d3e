package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"

	yamlv3 "go.yaml.in/yaml/v3"
)

// Tree is the content as nodes at the lines of the stream, repeated keys and values that
// no JSON has too; nil where there is no content. Whatever a YAML parser may read of the
// document besides is an error: nothing is passed over in silence.
func (d Document) Tree() (*yamlv3.Node, error) {
	if hides(d.Head) || hides(d.Tail) {
		return nil, fmt.Errorf("line %d or before: content stands behind a comment, parted from it by a carriage return or a Unicode line separator; "+
			"end each line with a line feed", d.Line)
	}
	if d.Empty() {
		return nil, nil //nolint:nilnil // as it says
	}
	decoder := yamlv3.NewDecoder(bytes.NewReader(d.Body))
	var document, second yamlv3.Node
	if err := decoder.Decode(&document); err != nil {
		return nil, d.noYAML(err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("holds more than one document, or something behind its end: put --- on a line of its own between two documents, "+
			"and end each line with a line feed (the first begins at line %d)", d.Line)
	}
	if len(document.Content) != 1 {
		return nil, d.noYAML(errors.New("the document is empty"))
	}
	move(document.Content[0], d.Line-1)
	return document.Content[0], nil
}

// isBreak says what ends a line for YAML besides a line feed.
func isBreak(r rune) bool { return r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029' }

// hides says whether a text of comments and blank lines holds content for a YAML parser.
func hides(text []byte) bool {
	for line := range bytes.Lines(text) {
		for i, part := range bytes.FieldsFunc(line, isBreak) {
			if i > 0 && !blankOrComment(part) {
				return true
			}
		}
	}
	return false
}

func move(node *yamlv3.Node, lines int) {
	node.Line += lines
	for _, part := range node.Content {
		move(part, lines)
	}
}

var saidLine = regexp.MustCompile(`\bline (\d+)`)

// noYAML is a parser's error with the lines of the stream.
func (d Document) noYAML(err error) error {
	return fmt.Errorf("is no YAML: %s", saidLine.ReplaceAllStringFunc(err.Error(), func(said string) string {
		line, _ := strconv.Atoi(said[len("line "):]) // digits, as the pattern has it
		return "line " + strconv.Itoa(line+d.Line-1)
	}))
}

// Resolve is the node that an alias stands for.
func Resolve(node *yamlv3.Node) *yamlv3.Node {
	for node != nil && node.Kind == yamlv3.AliasNode {
		node = node.Alias
	}
	return node
}

// Pair is a key of an object and its value.
type Pair struct{ Key, Value *yamlv3.Node }

// Pairs are what an object holds, a repeated key as often as it is there, and behind it
// what it takes from the objects that it merges (<<), of which the first counts. Aliases
// are resolved.
func Pairs(object *yamlv3.Node) []Pair { return pairs(object, map[string]bool{}, 0) }

// maxMerges bounds how deep merges are followed: an alias may stand inside its own anchor.
const maxMerges = 20

func pairs(object *yamlv3.Node, taken map[string]bool, depth int) []Pair {
	object = Resolve(object)
	if object == nil || object.Kind != yamlv3.MappingNode || depth > maxMerges {
		return nil
	}
	var all []Pair
	var merged []*yamlv3.Node
	own := map[string]bool{}
	for i := 0; i+1 < len(object.Content); i += 2 {
		key, value := Resolve(object.Content[i]), Resolve(object.Content[i+1])
		switch {
		case key.ShortTag() == "!!merge" && value.Kind == yamlv3.SequenceNode:
			merged = append(merged, value.Content...)
		case key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case !taken[key.Value]:
			own[key.Value] = true
			all = append(all, Pair{key, value})
		}
	}
	maps.Copy(taken, own)
	for _, one := range merged {
		all = append(all, pairs(one, taken, depth+1)...)
	}
	return all
}

// Values are the values of a key of an object: more than one where it is repeated.
func Values(object *yamlv3.Node, key string) []*yamlv3.Node {
	var all []*yamlv3.Node
	for _, pair := range Pairs(object) {
		if pair.Key.Value == key {
			all = append(all, pair.Value)
		}
	}
	return all
}
