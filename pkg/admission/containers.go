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
				c.HasEnv, err = r.list(func() error { return readEnv(r) })
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

// readEnv reads one entry. Most are a name and a literal as API servers write
// them, and such an entry is cut apart instead of walked: a Pod has many.
func readEnv(r *reader) error {
	raw, err := r.raw()
	if err != nil {
		return err
	}
	entry, plain := cutEnv(raw)
	if !plain {
		err = r.nested(raw, func(r *reader) error { return walkEnv(r, &entry) })
	}
	r.env = append(r.env, entry)
	return err
}

// cutEnv reads {"name":"…","value":"…"} when it is written exactly so, without
// escapes. raw is known to be well-formed JSON.
func cutEnv(raw string) (entry inject.EnvVar, ok bool) {
	rest, ok := strings.CutPrefix(raw, `{"name":"`)
	if !ok || strings.IndexByte(raw, '\\') >= 0 {
		return entry, false
	}
	name, rest, _ := strings.Cut(rest, `"`)
	if rest == "}" {
		return inject.EnvVar{Name: name}, true
	}
	rest, ok = strings.CutPrefix(rest, `,"value":"`)
	if !ok {
		return entry, false
	}
	value, rest, _ := strings.Cut(rest, `"`)
	return inject.EnvVar{Name: name, Value: inject.EnvValue{Text: value}}, rest == "}"
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
