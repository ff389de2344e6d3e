package admission

import (
	"fmt"
	"strings"

	"github.com/bucket-access/bucket-access-webhook/pkg/inject"
)

func readContainers(r *reader) ([]inject.Container, error) {
	list := make([]inject.Container, 0, 4)
	_, err := r.list(func() error {
		if len(list) == maxContainers {
			return fmt.Errorf("at %.200q: more than %d containers", string(r.decoder.StackPointer()), maxContainers)
		}
		var c inject.Container
		_, err := r.object(func(key string) (err error) {
			switch key {
			case "name":
				c.Name, err = r.str()
			case "env":
				first := len(r.env)
				c.HasEnv, err = readEnv(r)
				c.Env = r.env[first:len(r.env):len(r.env)]
			case "volumeMounts":
				c.HasMounts, err = r.list(func() error { return readMount(r, &c) })
			case "ports":
				c.Ports, err = r.raw()
			case "livenessProbe":
				c.Liveness, err = r.raw()
			case "readinessProbe":
				c.Readiness, err = r.raw()
			case "startupProbe":
				c.Startup, err = r.raw()
			case "lifecycle":
				c.Lifecycle, err = r.raw()
			default:
				err = r.skip()
			}
			return err
		})
		list = append(list, c)
		return err
	})
	return list, err
}

// readEnv reads a list of env entries. Most are a name and a literal as API servers write
// them, and such an entry is cut out of the list instead of walked: a Pod has many.
func readEnv(r *reader) (some bool, err error) {
	if r.decoder.PeekKind() != '[' {
		return r.list(func() error { return nil })
	}
	raw, err := r.raw()
	if err != nil {
		return false, err
	}
	rest := raw[1:]
	for i := 0; ; i++ {
		rest = strings.TrimLeft(rest, " \t\r\n,") // between two entries
		if rest[0] == ']' {
			return i > 0, nil
		}
		if err := r.element(); err != nil {
			return false, err
		}
		entry, length := cutEnv(rest)
		if length == 0 {
			length = elementLength(rest)
			if err := r.nested(i, rest[:length], func(r *reader) error { return walkEnv(r, &entry) }); err != nil {
				return false, err
			}
		}
		r.env = append(r.env, entry)
		rest = rest[length:]
	}
}

// elementLength is up to where an element of a list ends, what is behind it being well-formed.
func elementLength(rest string) int {
	depth := 0
	for i := 0; ; i++ {
		switch rest[i] {
		case '"':
			for i++; rest[i] != '"'; i++ {
				if rest[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return i
			}
			if rest[i] != ',' {
				depth--
			}
		}
	}
}

// cutEnv reads {"name":"…","value":"…"} when it is written exactly so, without
// escapes, and tells its length; or 0. The list is known to be well-formed.
func cutEnv(list string) (entry inject.EnvVar, length int) {
	rest, ok := strings.CutPrefix(list, `{"name":"`)
	if !ok {
		return entry, 0
	}
	name, rest, _ := strings.Cut(rest, `"`)
	value, plain := "", true
	if rest[0] == ',' {
		if rest, plain = strings.CutPrefix(rest, `,"value":"`); plain {
			value, rest, _ = strings.Cut(rest, `"`)
		}
	}
	if !plain || rest[0] != '}' || strings.IndexByte(name, '\\') >= 0 || strings.IndexByte(value, '\\') >= 0 {
		return entry, 0
	}
	return inject.EnvVar{Name: name, Value: inject.EnvValue{Text: value}}, len(list) - len(rest) + 1
}

func walkEnv(r *reader, entry *inject.EnvVar) error {
	*entry = inject.EnvVar{}
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "name":
			entry.Name, err = r.str()
		case "value":
			entry.Value.Text, err = r.str()
		case "valueFrom":
			err = readValueFrom(r, &entry.Value)
		default:
			err = r.skip()
		}
		return err
	})
	return err
}

// readValueFrom keeps a reference to a field of the Pod as its path, any other
// source as it is written.
func readValueFrom(r *reader, value *inject.EnvValue) error {
	start := int(r.decoder.InputOffset())
	var path, version string
	plain := true
	exists, err := r.object(func(key string) error {
		if key == "fieldRef" {
			return readFields(r, map[string]*string{"fieldPath": &path, "apiVersion": &version})
		}
		plain = false
		return r.skip()
	})
	switch {
	case err != nil || !exists:
	case plain && path != "" && (version == "" || version == "v1"):
		value.FieldPath = path
	default:
		value.From = strings.TrimLeft(r.text[start:r.decoder.InputOffset()], ": \t\r\n")
	}
	return err
}

func readMount(r *reader, c *inject.Container) error {
	var mount inject.Mount
	var subPath, subPathExpr string
	err := readMountFields(r, &mount, &subPath, &subPathExpr)
	mount.SubPath = subPath != "" || subPathExpr != ""
	if c.Mounts == nil {
		c.Mounts = make([]inject.Mount, 0, 4)
	}
	c.Mounts = append(c.Mounts, mount)
	return err
}

func readMountFields(r *reader, mount *inject.Mount, subPath, subPathExpr *string) error {
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "name":
			mount.Name, err = r.str()
		case "mountPath":
			mount.Path, err = r.str()
		case "subPath":
			*subPath, err = r.str()
		case "subPathExpr":
			*subPathExpr, err = r.str()
		default:
			err = r.skip()
		}
		return err
	})
	return err
}
