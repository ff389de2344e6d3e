package manifest

import (
	"bytes"
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// Document is one document of a stream. Its three texts, one after the other, are the
// stream's own bytes.
type Document struct {
	// Line is where Body begins in the stream, from 1.
	Line int
	// Head is the separator, directives and comments before the first line of content.
	Head []byte
	// Body is the content; empty where there is none.
	Body []byte
	// Tail is what stands behind the content: blank lines, comments, an end marker.
	Tail []byte
}

// Split cuts a stream into its documents. The texts of all, one after the other, are the
// stream.
func Split(stream []byte) []Document {
	var documents []Document
	start, line, first := 0, 1, 1
	cut := func(end int) {
		if end > start {
			documents = append(documents, jsonValues(newDocument(stream[start:end:end], first))...)
		}
		start, first = end, line
	}
	ended := false
	for at := 0; at < len(stream); line++ {
		end := lineEnd(stream, at)
		text := stream[at:end]
		// Directives stand before the separator of their own document.
		if isMarker(text, "---") && !onlyDirectives(stream[start:at]) || ended {
			cut(at)
		}
		ended = isMarker(text, "...")
		at = end
	}
	cut(len(stream))
	return documents
}

func newDocument(text []byte, line int) Document {
	d := Document{Line: line}
	at := 0
	for at < len(text) {
		end := lineEnd(text, at)
		content := bytes.TrimPrefix(text[at:end], []byte("\ufeff"))
		if isMarker(content, "---") {
			content = content[3:]
			if !blankOrComment(content) {
				break // content stands on the separator's own line
			}
		} else if !blankOrComment(content) && content[0] != '%' {
			break
		}
		at = end
		d.Line++
	}
	d.Head, d.Body = text[:at:at], text[at:]
	end := len(d.Body)
	for end > 0 {
		begin := bytes.LastIndexByte(d.Body[:end-1], '\n') + 1
		content := d.Body[begin:end]
		// An indented comment may be text of a block scalar.
		outer := content[0] == '#' || len(bytes.TrimSpace(content)) == 0 || isMarker(content, "...")
		if !outer || begin == 0 {
			break
		}
		end = begin
	}
	d.Body, d.Tail = d.Body[:end:end], d.Body[end:]
	return d
}

// jsonValues are the documents of one that is JSON values one behind the other, as kubectl
// reads them.
func jsonValues(d Document) []Document {
	var all []Document
	for bytes.HasPrefix(d.Body, []byte("{")) {
		decoder := json.NewDecoder(bytes.NewReader(d.Body))
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			break // YAML, or nothing at all: that is found where it is read
		}
		rest := d.Body[decoder.InputOffset():]
		next := bytes.TrimLeft(rest, " \t\r\n")
		if !bytes.HasPrefix(next, []byte("{")) {
			break
		}
		between := rest[:len(rest)-len(next)]
		tail := between[min(len(between), lineEnd(between, 0)):]
		end := len(d.Body) - len(next) - len(tail)
		all = append(all, Document{Line: d.Line, Head: d.Head, Body: d.Body[:end:end], Tail: tail[:len(tail):len(tail)]})
		d = Document{Line: d.Line + bytes.Count(d.Body[:len(d.Body)-len(next)], []byte("\n")), Body: next, Tail: d.Tail}
	}
	return append(all, d)
}

func lineEnd(text []byte, at int) int {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

// isMarker says whether a line is "---" or "...", alone or before white space.
func isMarker(line []byte, marker string) bool {
	rest, ok := bytes.CutPrefix(line, []byte(marker))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

func blankOrComment(line []byte) bool {
	text := bytes.TrimSpace(line)
	return len(text) == 0 || text[0] == '#'
}

// onlyDirectives says whether text holds directives and nothing that is content.
func onlyDirectives(text []byte) bool {
	directives := false
	for at := 0; at < len(text); {
		end := lineEnd(text, at)
		line := bytes.TrimPrefix(text[at:end], []byte("\ufeff"))
		switch {
		case bytes.HasPrefix(line, []byte("%")):
			directives = true
		case !blankOrComment(line):
			return false
		}
		at = end
	}
	return directives
}

// Empty says that the document holds no content.
func (d Document) Empty() bool { return len(d.Body) == 0 }

// Bytes is the document as it stands in the stream.
func (d Document) Bytes() []byte {
	return bytes.Join([][]byte{d.Head, d.Body, d.Tail}, nil)
}

// JSON is the content as an API server reads it: a repeated key is an error.
func (d Document) JSON() ([]byte, error) {
	if _, err := d.Tree(); err != nil {
		return nil, err
	}
	text, err := yaml.YAMLToJSONStrict(d.Body)
	if err != nil {
		return nil, d.noYAML(err)
	}
	return text, nil
}
