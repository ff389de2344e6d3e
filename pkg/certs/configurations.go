package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// fieldManager owns the caBundles.
const fieldManager = "bucket-access-webhook-ca"

// errRaced says that somebody else wrote first; the next look sees what.
var errRaced = errors.New("changed meanwhile")

// Configurations are the mutating and the validating webhook configuration of one
// name. Their caBundles are written by JSON Patch: whoever applies the configurations
// server-side would share a list item with us if we did the same, and could not take
// the item away again.
type Configurations struct {
	Client kubernetes.Interface
	Name   string
}

// entry is one webhook of a configuration.
type entry struct {
	name   string
	bundle []byte
}

// configuration is what either kind has in common.
type configuration struct {
	kind, version string
	entries       []entry
	patch         func(ctx context.Context, patch []byte) error
}

// Bundles are all entries' caBundles, by kind and name of the entry.
func (c Configurations) Bundles(ctx context.Context) (map[string][]byte, error) {
	all, err := c.read(ctx)
	bundles := map[string][]byte{}
	for _, one := range all {
		for _, e := range one.entries {
			bundles[one.kind+" "+e.name] = e.bundle
		}
	}
	return bundles, err
}

// Sync brings every entry's caBundle in line with current; see merge. It returns the
// number of entries that it wrote and when to look again.
func (c Configurations) Sync(ctx context.Context, current []*x509.Certificate, now time.Time, keep time.Duration) (written int, next time.Time, err error) {
	all, err := c.read(ctx)
	errs := []error{err}
	for _, one := range all {
		// The version guards the whole object: of two writers one looks again, and no
		// entry gets the bundle of another.
		operations := []jsonpatch.Operation{jsonpatch.NewOperation("test", "/metadata/resourceVersion", one.version)}
		count := 0
		for i, e := range one.entries {
			merged, end := merge(e.bundle, current, now, keep)
			if !end.IsZero() && (next.IsZero() || end.Before(next)) {
				next = end
			}
			if bytes.Equal(merged, e.bundle) {
				continue
			}
			count++
			path := fmt.Sprintf("/webhooks/%d", i)
			operations = append(operations,
				jsonpatch.NewOperation("test", path+"/name", e.name), jsonpatch.NewOperation("add", path+"/clientConfig/caBundle", merged))
		}
		if count == 0 {
			continue
		}
		patch, err := json.Marshal(operations)
		if err == nil {
			err = one.patch(ctx, patch)
		}
		if apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
			err = fmt.Errorf("%w: %w", errRaced, err) // a test of the patch failed
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("writing the caBundles of %s %s: %w", one.kind, c.Name, err))
			continue
		}
		written += count
	}
	return written, next, errors.Join(errs...)
}

// read reads both; one that does not exist calls nobody and needs no bundle.
func (c Configurations) read(ctx context.Context) ([]configuration, error) {
	client := c.Client.AdmissionregistrationV1()
	options := metav1.PatchOptions{FieldManager: fieldManager}
	var all []configuration
	mutating, err := client.MutatingWebhookConfigurations().Get(ctx, c.Name, metav1.GetOptions{})
	if err == nil {
		one := configuration{kind: "MutatingWebhookConfiguration", version: mutating.ResourceVersion, patch: func(ctx context.Context, patch []byte) error {
			_, err := client.MutatingWebhookConfigurations().Patch(ctx, c.Name, types.JSONPatchType, patch, options)
			return err
		}}
		for i := range mutating.Webhooks {
			one.entries = append(one.entries, entryOf(mutating.Webhooks[i].Name, mutating.Webhooks[i].ClientConfig))
		}
		all = append(all, one)
	}
	validating, err2 := client.ValidatingWebhookConfigurations().Get(ctx, c.Name, metav1.GetOptions{})
	if err2 == nil {
		one := configuration{kind: "ValidatingWebhookConfiguration", version: validating.ResourceVersion, patch: func(ctx context.Context, patch []byte) error {
			_, err := client.ValidatingWebhookConfigurations().Patch(ctx, c.Name, types.JSONPatchType, patch, options)
			return err
		}}
		for i := range validating.Webhooks {
			one.entries = append(one.entries, entryOf(validating.Webhooks[i].Name, validating.Webhooks[i].ClientConfig))
		}
		all = append(all, one)
	}
	return all, errors.Join(unlessMissing(err), unlessMissing(err2))
}

func entryOf(name string, client admissionv1.WebhookClientConfig) entry {
	return entry{name: name, bundle: client.CABundle}
}

func unlessMissing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
