package admission

import (
	"errors"
	"fmt"
)

// review is what is read of an AdmissionReview besides the objects.
type review struct {
	uid, name, namespace, operation string
	resource, subResource           string
	dryRun                          bool
}

// target is what an entry reads and answers: one object of one request.
type target interface {
	// object and oldObject read the object into the target; null is absent.
	object(r *reader) error
	oldObject(r *reader) error
}

const (
	reviewKind    = "AdmissionReview"
	reviewVersion = "admission.k8s.io/v1"
	// maxUID bounds what is echoed; API servers send 36 characters.
	maxUID = 128
)

// readReview reads a whole AdmissionReview, the objects into t, with memory that is
// used again.
func readReview(s *scratch, t target) (review, error) {
	var rev review
	var kind, version string
	requested := false
	var err error
	s.env, err = readInto(withoutManagedFields(s.body), s.env, func(r *reader) error {
		exists, err := r.object(func(key string) (err error) {
			switch key {
			case "kind":
				kind, err = r.str()
			case "apiVersion":
				version, err = r.str()
			case "request":
				requested, err = readRequest(r, &rev, t)
			default:
				err = r.skip()
			}
			return err
		})
		if err == nil && !exists {
			err = errors.New("the body is no object")
		}
		return err
	})
	switch {
	case err != nil:
		return rev, err
	case kind != reviewKind || version != reviewVersion:
		return rev, fmt.Errorf("want kind %s of %s, found kind %.60q of %.60q", reviewKind, reviewVersion, kind, version)
	case !requested:
		return rev, errors.New("the review holds no request")
	case rev.uid == "" || len(rev.uid) > maxUID:
		return rev, fmt.Errorf("request.uid must have 1 to %d characters", maxUID)
	}
	return rev, nil
}

func readRequest(r *reader, rev *review, t target) (bool, error) {
	return r.object(func(key string) (err error) {
		switch key {
		case "uid":
			rev.uid, err = r.str()
		case "name":
			rev.name, err = r.name(maxName)
		case "namespace":
			rev.namespace, err = r.name(maxName)
		case "operation":
			rev.operation, err = r.str()
		case "subResource":
			rev.subResource, err = r.str()
		case "dryRun":
			rev.dryRun, err = r.boolean()
		case "resource":
			rev.resource, err = readResource(r)
		case "object":
			err = t.object(r)
		case "oldObject":
			err = t.oldObject(r)
		default:
			err = r.skip()
		}
		return err
	})
}

// readResource reads a GroupVersionResource of the core group as its resource;
// of any other group as group/resource, which no entry serves.
func readResource(r *reader) (string, error) {
	var group, resource string
	_, err := r.object(func(key string) (err error) {
		switch key {
		case "group":
			group, err = r.str()
		case "resource":
			resource, err = r.str()
		default:
			err = r.skip()
		}
		return err
	})
	if group != "" {
		resource = group + "/" + resource
	}
	return resource, err
}
