package policy

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
)

// decoder walks a YAML document node by node instead of unmarshalling it, because
// an unmarshaller stops at the first wrong type and forgets the lines: a person
// who wrote five mistakes wants to read of five.
type decoder struct {
	errs  field.ErrorList
	lines map[string]int // path to line of the document, from 1
}

// setter reads one value of an object's field.
type setter func(path *field.Path, node *yaml.Node)

// decode reads exactly one strict document, which begins at line first.
func decode(text string, first int, root *field.Path) (v1alpha1.BucketAccessPolicy, map[string]int, field.ErrorList) {
	d := &decoder{lines: map[string]int{}}
	var doc v1alpha1.BucketAccessPolicy
	node, err := oneDocument(text)
	if err != nil {
		return doc, d.lines, field.ErrorList{invalid(root, moveLines(err.Error(), first-1))}
	}
	moveNodes(node, first-1)
	d.object(root, node, documentFields(d, &doc))
	return doc, d.lines, d.errs
}

func documentFields(d *decoder, doc *v1alpha1.BucketAccessPolicy) map[string]setter {
	return map[string]setter{
		"apiVersion":             d.text(&doc.APIVersion),
		"kind":                   d.text(&doc.Kind),
		"bucket":                 d.text(&doc.Bucket),
		"region":                 d.text(&doc.Region),
		"roleARN":                d.text(&doc.RoleARN),
		"subjects":               d.subjects(&doc.Subjects),
		"audience":               d.text(&doc.Audience),
		"tokenExpirationSeconds": d.seconds(&doc.TokenExpirationSeconds),
		"prefix":                 d.text(&doc.Prefix),
		"actions":                d.texts(&doc.Actions),
		"kmsKeyARN":              d.text(&doc.KMSKeyARN),
		"issuer":                 d.text(&doc.Issuer),
		"staticCredentials":      d.text((*string)(&doc.StaticCredentials)),
		"instanceMetadata":       d.text((*string)(&doc.InstanceMetadata)),
		"env": d.fields(map[string]setter{
			"bucketName":   d.text(&doc.Env.BucketName),
			"bucketRegion": d.text(&doc.Env.BucketRegion),
			"bucketPrefix": d.text(&doc.Env.BucketPrefix),
		}),
		"endpoints": d.fields(map[string]setter{
			"s3":  d.text(&doc.Endpoints.S3),
			"sts": d.text(&doc.Endpoints.STS),
		}),
		"reader": d.fields(map[string]setter{
			"inject":   d.boolean(&doc.Reader.Inject),
			"gate":     d.text((*string)(&doc.Reader.Gate)),
			"probeKey": d.text(&doc.Reader.ProbeKey),
		}),
	}
}

// oneDocument parses text, which must hold one YAML document and no more.
func oneDocument(text string) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("is empty; a policy is one YAML document with bucket, region, roleARN and subjects")
		}
		return nil, fmt.Errorf("is no YAML: %w", err)
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document; write each policy under a data key of its own")
	}
	if len(document.Content) != 1 {
		return nil, errors.New("is empty")
	}
	return document.Content[0], nil
}

// moveNodes has nodes stand lines further down.
func moveNodes(node *yaml.Node, lines int) {
	node.Line += lines
	for _, part := range node.Content {
		moveNodes(part, lines)
	}
}

var saidLine = regexp.MustCompile(`\bline (\d+)`)

// moveLines is a parser's message with its lines further down.
func moveLines(message string, lines int) string {
	return saidLine.ReplaceAllStringFunc(message, func(said string) string {
		line, _ := strconv.Atoi(said[len("line "):]) // digits, as the pattern has it
		return "line " + strconv.Itoa(line+lines)
	})
}

func (d *decoder) fail(err *field.Error) { d.errs = append(d.errs, err) }

// wrongType reports a node that is not what its field takes. Only the kind of what
// was found is said, and a scalar's own text.
func (d *decoder) wrongType(path *field.Path, node *yaml.Node, want string) {
	found := map[yaml.Kind]string{yaml.MappingNode: "an object", yaml.SequenceNode: "a list", yaml.AliasNode: "an alias"}[node.Kind]
	if node.Kind == yaml.ScalarNode {
		found = strconv.Quote(node.Value)
	}
	hint := ""
	if node.Kind == yaml.AliasNode {
		hint = "; anchors and aliases are not supported, write the value out"
	} else if want == "a string" && node.Kind == yaml.ScalarNode {
		hint = "; put it in quotes"
	}
	d.fail(field.TypeInvalid(path, field.OmitValueType{}, fmt.Sprintf("must be %s, found %s%s", want, found, hint)))
}

func (d *decoder) object(path *field.Path, node *yaml.Node, known map[string]setter) {
	if isNull(node) {
		return
	}
	if node.Kind != yaml.MappingNode {
		d.wrongType(path, node, "an object")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		at := path.Child(key.Value)
		if first, repeated := seen[key.Value]; repeated {
			d.fail(field.Forbidden(at, fmt.Sprintf("repeated key: first on line %d, again on line %d; keep one", first, key.Line)))
			continue
		}
		seen[key.Value] = key.Line
		d.lines[at.String()] = key.Line
		set, ok := known[key.Value]
		if !ok || key.Kind != yaml.ScalarNode {
			names := strings.Join(slices.Sorted(maps.Keys(known)), ", ")
			d.fail(field.Forbidden(at, "unknown key; known here: "+names))
			continue
		}
		set(at, value)
	}
}

func (d *decoder) fields(known map[string]setter) setter {
	return func(path *field.Path, node *yaml.Node) { d.object(path, node, known) }
}

func (d *decoder) text(into *string) setter {
	return func(path *field.Path, node *yaml.Node) {
		switch {
		case isNull(node):
		case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str":
			*into = node.Value
		default:
			d.wrongType(path, node, "a string")
		}
	}
}

func (d *decoder) boolean(into *bool) setter {
	return func(path *field.Path, node *yaml.Node) {
		if isNull(node) {
			return
		}
		if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!bool" || node.Decode(into) != nil {
			d.wrongType(path, node, "true or false")
		}
	}
}

// seconds reads a token lifetime. The bound is checked here and not later, because
// a written 0 must not pass for a field that was left out.
func (d *decoder) seconds(into *int64) setter {
	return func(path *field.Path, node *yaml.Node) {
		if isNull(node) {
			return
		}
		if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!int" || node.Decode(into) != nil {
			d.wrongType(path, node, "a whole number of seconds")
			return
		}
		if !ValidTokenExpiration(*into) {
			d.fail(field.Invalid(path, *into, tokenExpirationRange))
		}
	}
}

// list calls item for each element; into is made non-nil by its presence.
func (d *decoder) list(path *field.Path, node *yaml.Node, item setter) bool {
	if isNull(node) {
		return false
	}
	if node.Kind != yaml.SequenceNode {
		d.wrongType(path, node, "a list")
		return false
	}
	for i, element := range node.Content {
		d.lines[path.Index(i).String()] = element.Line
		item(path.Index(i), element)
	}
	return true
}

func (d *decoder) texts(into *[]string) setter {
	return func(path *field.Path, node *yaml.Node) {
		items := []string{}
		if d.list(path, node, func(at *field.Path, element *yaml.Node) {
			var item string
			d.text(&item)(at, element)
			items = append(items, item)
		}) {
			*into = items
		}
	}
}

func (d *decoder) subjects(into *[]v1alpha1.Subject) setter {
	return func(path *field.Path, node *yaml.Node) {
		d.list(path, node, func(at *field.Path, element *yaml.Node) {
			var subject v1alpha1.Subject
			d.object(at, element, map[string]setter{
				"namespace":      d.text(&subject.Namespace),
				"serviceAccount": d.text(&subject.ServiceAccount),
			})
			*into = append(*into, subject)
		})
	}
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

func invalid(path *field.Path, detail string) *field.Error {
	return field.Invalid(path, field.OmitValueType{}, detail)
}
