// Package patch is RFC 6902 in the small: add and remove operations against the
// original document, so that whatever nobody names survives byte for byte. It
// stands alone and imports nothing of the project.
package patch

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Operation is one add (Value set) or remove (Value nil). An add of an existing
// object member replaces it.
type Operation struct {
	Path  Pointer
	Value []byte // JSON
}

// Pointer is a JSON pointer (RFC 6901).
type Pointer string

var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// Child is the member key below p.
func (p Pointer) Child(key string) Pointer {
	if strings.ContainsAny(key, "~/") {
		key = escaper.Replace(key)
	}
	return p + "/" + Pointer(key)
}

// Index is element i below p.
func (p Pointer) Index(i int) Pointer { return p + "/" + Pointer(strconv.Itoa(i)) }

// End is the place behind the last element of the list at p.
func (p Pointer) End() Pointer { return p + "/-" }

// Add makes an add operation.
func Add(path Pointer, value []byte) Operation { return Operation{Path: path, Value: value} }

// Remove makes a remove operation.
func Remove(path Pointer) Operation { return Operation{Path: path} }

// Append appends the JSON of the operations to dst.
func Append(dst []byte, operations []Operation) []byte {
	dst = append(dst, '[')
	var last Pointer // many operations in a row append to one list
	var from, to int // where its quoted form stands in dst
	for i, operation := range operations {
		if i > 0 {
			dst = append(dst, ',')
		}
		if operation.Value == nil {
			dst = append(dst, `{"op":"remove","path":`...)
			dst = AppendString(dst, string(operation.Path))
		} else {
			dst = append(dst, `{"op":"add","path":`...)
			if i > 0 && operation.Path == last && to > 0 {
				dst = append(dst, dst[from:to]...)
			} else {
				last, from = operation.Path, len(dst)
				dst = AppendString(dst, string(operation.Path))
				to = len(dst)
			}
			dst = append(dst, `,"value":`...)
			dst = append(dst, operation.Value...)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// AppendString appends s as a JSON string; bytes that are no UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	out, err := jsontext.AppendQuote(dst, s)
	if err == nil {
		return out
	}
	out, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD"))
	return out
}

// String returns s as a JSON value.
func String(s string) []byte { return AppendString(make([]byte, 0, len(s)+len(s)/8+2), s) } // an eighth for escapes: JSON in JSON
