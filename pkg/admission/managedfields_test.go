package admission

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

func TestManagedFieldsAreCut(t *testing.T) {
	const entry = `{"manager":"kubectl","fieldsV1":{"f:env":{".":{},"k:{\"name\":\"A\"}":{".":{},"f:value":{}}}}}`
	for document, want := range map[string]string{
		`{"metadata":{"name":"a","managedFields":[` + entry + `]},"spec":{"a":[1]}}`:                               `{"metadata":{"name":"a"},"spec":{"a":[1]}}`,
		`{"metadata":{"name":"a","managedFields":[` + entry + `,` + entry + `],"ownerReferences":[]},"spec":1}`:    `{"metadata":{"name":"a","ownerReferences":[]},"spec":1}`,
		`{"a":1,"managedFields":[],"b":2,"managedFields":[],"c":3}`:                                                `{"a":1,"b":2,"c":3}`,
		`{"object":{"m":{"a":1,"managedFields":[{}]},"s":1},"oldObject":{"m":{"a":1,"managedFields":[{}]},"s":2}}`: `{"object":{"m":{"a":1},"s":1},"oldObject":{"m":{"a":1},"s":2}}`,
	} {
		if got := withoutManagedFields([]byte(document)); string(got) != want {
			t.Errorf("%s\nbecame %s\nwant   %s", document, got, want)
		}
	}
}

// Where it can't be seen at once what is a list and what a string, all stays.
func TestManagedFieldsThatStay(t *testing.T) {
	for _, document := range []string{
		``,
		`{}`,
		`,"managedFields":[`,
		`{"a":1,"managedFields":[{}]}`, // no key behind
		`{"a":1,"managedFields":[{"f:a":[{}]}],"b":2}`,    // a list inside
		`{"a":1,"managedFields":[{"v:[":{}}],"b":2}`,      // a bracket in a string
		`{"a":1,"managedFields":[{"v:]},\"b":{}}],"b":2}`, // the same, which looks like the end
		`{"a":1,"managedFields":[{"k:]},bcd":{}}],"b":2}`, // a bracket in a string, and no quotation mark behind
		`{"a":1,"managedFields":[{"k:]},":{}}],"b":2}`,    // its end behind that
		`{"managedFields":[{}],"b":2}`,                    // the first key
		`{"a":1,"managedFields" : [{}],"b":2}`,            // as no API server writes it
		`{"a":1,"managedFields":[{}] , "b":2}`,
		`{"a":",\"managedFields\":[","b":"],\"c"}`, // text
		`{"a":1,"unmanagedFields":[{}],"b":2}`,
		`{"a":1,"managedFields":{"x":[{}]},"b":2}`,
		`["x,","managedFields",[{}],"b"]`,
	} {
		if got := withoutManagedFields([]byte(document)); string(got) != document {
			t.Errorf("%s\nbecame %s", document, got)
		}
	}
}

// FuzzManagedFields: of JSON, nothing goes but lists that are called managedFields.
func FuzzManagedFields(f *testing.F) {
	f.Add([]byte(`{"a":1,"managedFields":[{"k:]},":{"k:]},bcd":[]}}],"b":2}`))
	f.Add([]byte(`{"m":{"a":1,"managedFields":[{"f:x":{}}]},"s":1}`))
	f.Add([]byte(`{"a":[{"b":1,"managedFields":[{"k:{\"name\":\"]},\\\"x\"}":{}}],"c":2}],"d,":"e,\"managedFields\":["}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		want, err := unmanaged(document)
		cut, errCut := unmanaged(withoutManagedFields(bytes.Clone(document)))
		if err == nil && (errCut != nil || cut != want) {
			t.Fatalf("%.1000s\nbecame %.1000s (%v)\nwant   %.1000s", document, cut, errCut, want)
		}
	})
}

// unmanaged writes a document anew, without any list that is called managedFields.
func unmanaged(document []byte) (string, error) {
	decoder := jsontext.NewDecoder(bytes.NewReader(document), jsontext.AllowDuplicateNames(true))
	value, err := decoder.ReadValue()
	if err != nil {
		return "", err
	}
	value = slices.Clone(value) // it is the decoder's
	if _, err := decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return "", errors.New("more than one value")
	}
	return rewrite(value), nil
}

func rewrite(value jsontext.Value) string {
	kind := value.Kind()
	if kind != '{' && kind != '[' {
		return strings.TrimSpace(string(value))
	}
	decoder := jsontext.NewDecoder(bytes.NewReader(value), jsontext.AllowDuplicateNames(true))
	_, _ = decoder.ReadToken()
	var parts []string
	for decoder.PeekKind() != '}' && decoder.PeekKind() != ']' {
		part, _ := decoder.ReadValue()
		text := rewrite(slices.Clone(part))
		if kind == '{' {
			child, _ := decoder.ReadValue()
			if text == `"managedFields"` && child.Kind() == '[' {
				continue
			}
			text += ":" + rewrite(slices.Clone(child))
		}
		parts = append(parts, text)
	}
	return string(kind) + strings.Join(parts, ",") + string(kind+2)
}

// FuzzEnv: entries that are cut out are those that are read.
func FuzzEnv(f *testing.F) {
	for _, list := range []string{
		`null`, `[]`, ` [ ] `, `{}`, `"a"`, `[`, `[null]`, `[1,true]`, `[[],{}]`, `[{"name":"A"}]`, `[{"name":"A","value":""},{"name":"B","value":"b"}]`,
		`[ {"name":"A","value":"a"} , {"name" : "B"}]`, `[{"value":"a","name":"A"}]`, `[{"name":"A\"","value":"a"}]`, `[{"name":"A","value":"\\"},{"name":"B"}]`,
		`[{"name":"A","value":"]"},{"name":"B","valueFrom":{"secretKeyRef":{"name":"s","key":"k]"}}},{"name":"C","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]`,
		`[{"name":"A","value":null}]`, `[{"name":"A","value":"a","x":1}]`, `[{"name":"A","name":"B"}]`, `[{"name":"A"},]`, `[{"name":"A"}{"name":"B"}]`, `[{"name":5}]`,
	} {
		f.Add([]byte(list))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		var some, someWalked bool
		cut, err := readInto(list, nil, func(r *reader) (err error) { some, err = readEnv(r); return err })
		var walked []inject.EnvVar
		errWalked := read(list, func(r *reader) (err error) {
			someWalked, err = r.list(func() error {
				var entry inject.EnvVar
				err := walkEnv(r, &entry)
				walked = append(walked, entry)
				return err
			})
			return err
		})
		if (err == nil) != (errWalked == nil) || err == nil && (some != someWalked || !slices.Equal(cut, walked)) {
			t.Fatalf("%s\nis %t %+v (%v)\nwant %t %+v (%v)", list, some, cut, err, someWalked, walked, errWalked)
		}
	})
}
