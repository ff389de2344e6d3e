package admission

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

// reader walks a JSON document once and strictly: invalid UTF-8, trailing data,
// nesting deeper than 10,000 and a repeated key in any object that is looked into
// are errors. Objects that nobody looks into are only checked for their syntax:
// looking for repeated keys in them too would double the time of the whole pass. Of a review,
// managed fields are not even that: see withoutManagedFields.
type reader struct {
	decoder *jsontext.Decoder
	// text is the document; what is read are parts of it, so a string costs nothing.
	text string
	// elements of lists that were read so far.
	elements int
	// env holds the env entries of all containers, one behind the other.
	env []inject.EnvVar
}

// Bounds of what is made of a body: a Pod that a cluster can run has far fewer, and
// etcd takes 1.5 MiB of it. Without them a small body makes a large object.
const (
	maxElements   = 50_000
	maxContainers = 1_000
)

var decoders = sync.Pool{New: func() any { return jsontext.NewDecoder(&bytes.Buffer{}) }}

// read calls top with a reader over body, which must hold one value and no more.
func read(body []byte, top func(*reader) error) error {
	_, err := readInto(body, nil, top)
	return err
}

// readInto is read with memory for env entries, which it returns for the next time.
func readInto(body []byte, env []inject.EnvVar, top func(*reader) error) ([]inject.EnvVar, error) {
	decoder, _ := decoders.Get().(*jsontext.Decoder)
	defer decoders.Put(decoder)
	decoder.Reset(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true))
	// The strings that are read are parts of body, not copies: nobody may keep one
	// beyond the request that body belongs to.
	r := &reader{decoder: decoder, text: unsafe.String(unsafe.SliceData(body), len(body))} //nolint:gosec // see above
	r.env = env[:0]
	if err := top(r); err != nil {
		return r.env, err
	}
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return r.env, errors.New("there is more behind the document")
	}
	return r.env, nil
}

// nested walks element i of the list that was read last.
func (r *reader) nested(i int, raw string, walk func(*reader) error) error {
	at := r.decoder.StackPointer()
	if err := read([]byte(raw), walk); err != nil {
		return fmt.Errorf("below %.200q: %w", fmt.Sprintf("%s/%d", at, i), err)
	}
	return nil
}

// wrongType says where and what kind was found, never the value itself.
func (r *reader) wrongType(want string, found jsontext.Kind) error {
	return fmt.Errorf("at %.200q: want %s, found %s", string(r.decoder.StackPointer()), want, found)
}

// skip passes over one value, checking its syntax.
func (r *reader) skip() error {
	_, err := r.decoder.ReadValue()
	return err
}

// raw returns one value as it is written.
func (r *reader) raw() (string, error) {
	value, err := r.decoder.ReadValue()
	if err != nil {
		return "", err
	}
	end := int(r.decoder.InputOffset())
	return r.text[end-len(value) : end], nil
}

// str reads a string; null reads as empty.
func (r *reader) str() (string, error) {
	kind := r.decoder.PeekKind()
	raw, err := r.raw()
	switch {
	case err != nil:
		return "", err
	case kind == 'n':
		return "", nil
	case kind != '"':
		return "", r.wrongType("a string", kind)
	case strings.IndexByte(raw, '\\') < 0:
		return raw[1 : len(raw)-1], nil
	}
	unquoted, err := jsontext.AppendUnquote(nil, raw)
	return string(unquoted), err
}

// number reads a whole number; null reads as 0.
func (r *reader) number() (int64, error) {
	kind := r.decoder.PeekKind()
	raw, err := r.raw()
	if err != nil || kind == 'n' {
		return 0, err
	}
	value, err := strconv.ParseInt(raw, 10, 64)
	if err != nil {
		return 0, r.wrongType("a whole number", kind)
	}
	return value, nil
}

// boolean reads true or false; null reads as false.
func (r *reader) boolean() (bool, error) {
	kind := r.decoder.PeekKind()
	raw, err := r.raw()
	if err == nil && kind != 't' && kind != 'f' && kind != 'n' {
		err = r.wrongType("true or false", kind)
	}
	return raw == "true", err
}

// object calls each for every key, which must read exactly one value; null reads
// as an absent object. It reports whether there was an object.
func (r *reader) object(each func(key string) error) (bool, error) {
	switch kind := r.decoder.PeekKind(); kind {
	case '{':
	case 'n':
		return false, r.skip()
	case '"', '0', 't', 'f', '[':
		return false, r.wrongType("an object", kind)
	default:
		return false, r.skip() // the syntax error
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return false, err
	}
	var keys seen
	for r.decoder.PeekKind() != '}' {
		key, err := r.str()
		if err != nil {
			return false, err
		}
		if keys.again(key) {
			return false, fmt.Errorf("at %.200q: repeated key", string(r.decoder.StackPointer()))
		}
		if err := each(key); err != nil {
			return false, err
		}
	}
	_, err := r.decoder.ReadToken()
	return true, err
}

// list calls each for every element, which must read exactly one value; null reads
// as an absent list. It reports whether there was an element: an empty list is
// written anew like an absent one.
func (r *reader) list(each func() error) (bool, error) {
	switch kind := r.decoder.PeekKind(); kind {
	case '[':
	case 'n':
		return false, r.skip()
	case '"', '0', 't', 'f', '{':
		return false, r.wrongType("a list", kind)
	default:
		return false, r.skip() // the syntax error
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return false, err
	}
	some := false
	for r.decoder.PeekKind() != ']' {
		some = true
		if err := r.element(); err != nil {
			return false, err
		}
		if err := each(); err != nil {
			return false, err
		}
	}
	_, err := r.decoder.ReadToken()
	return some, err
}

// element counts one more element of a list.
func (r *reader) element() error {
	if r.elements++; r.elements > maxElements {
		return fmt.Errorf("at %.200q: more than %d list elements", string(r.decoder.StackPointer()), maxElements)
	}
	return nil
}

// strings reads an object of strings, keeping the keys that keep says; nil keeps all.
func (r *reader) strings(keep func(key string) bool) (map[string]string, bool, error) {
	var values map[string]string
	exists, err := r.object(func(key string) error {
		if keep != nil && !keep(key) {
			return r.skip()
		}
		value, err := r.str()
		if values == nil {
			values = map[string]string{}
		}
		values[key] = value
		return err
	})
	return values, exists, err
}

// seen remembers the keys of one object. The objects of a Pod have few, for which
// comparing is faster than hashing; a map takes over where somebody sends many.
type seen struct {
	few  [16]string
	n    int
	many map[string]struct{}
}

func (s *seen) again(key string) bool {
	if s.n < len(s.few) {
		if slices.Contains(s.few[:s.n], key) {
			return true
		}
		s.few[s.n] = key
		s.n++
		return false
	}
	if s.many == nil {
		s.many = make(map[string]struct{}, 2*len(s.few))
		for _, k := range s.few {
			s.many[k] = struct{}{}
		}
	}
	_, again := s.many[key]
	s.many[key] = struct{}{}
	return again
}
