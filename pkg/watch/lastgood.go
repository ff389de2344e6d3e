package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/bucket-access/bucket-access-webhook/pkg/api/v1alpha1"
	"github.com/bucket-access/bucket-access-webhook/pkg/metrics"
	"github.com/bucket-access/bucket-access-webhook/pkg/policy"
)

// maxLastGood bounds the ConfigMap of last good documents: the API server takes
// 1 MiB of data; a tenth is left for metadata and the JSON around each document.
const maxLastGood = 900 << 10

// lastGoodManager owns the label of that ConfigMap, and none of its data.
const lastGoodManager = "bucket-access-webhook-last-good"

// records reads the last good documents. One that can't be read is as good as none:
// it is written again by the replica that has the document.
func (p *Policies) records(lastGood *corev1.ConfigMap) map[string]policy.Record {
	records := map[string]policy.Record{}
	if lastGood == nil {
		return records
	}
	for name, text := range lastGood.Data {
		var record policy.Record
		if err := json.Unmarshal([]byte(text), &record); err != nil {
			p.Log.Info("A last good document can't be read and is ignored", "policy", name, "configMap", p.LastGoodName)
			continue
		}
		records[name] = record
	}
	return records
}

// remember brings the ConfigMap of last good documents up to date. Any replica
// writes, not the leader alone: the one that still has a document may not be the
// leader. Optimistic concurrency and the documents' versions keep the youngest, and
// the same document is never written twice.
func (p *Policies) remember(
	ctx context.Context, snapshot *policy.Snapshot, records map[string]policy.Record, lastGood *corev1.ConfigMap,
) error {
	wanted := wantedRecords(snapshot, records)
	if maps.Equal(wanted, records) {
		return nil
	}
	data := map[string]string{}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		text, err := json.Marshal(wanted[name])
		if err != nil {
			return fmt.Errorf("last good document of policy %s: %w", name, err)
		}
		if size += len(name) + len(text); size > maxLastGood {
			p.Log.Info("Too many last good documents; those left out do not survive a restart", "first", name)
			break
		}
		data[name] = string(text)
	}
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: p.LastGoodName, Namespace: p.Namespace, Labels: map[string]string{v1alpha1.LabelPolicies: v1alpha1.PoliciesLastGood},
	}, Data: data}
	err := p.write(ctx, object, lastGood)
	if errors.Is(err, errNotFirst) || apierrors.IsConflict(err) {
		return nil // another replica was first; what it wrote comes back as a change
	}
	if err != nil {
		p.Recorder.LastGoodWrite(metrics.Failed)
		return fmt.Errorf("remembering last good documents in ConfigMap %s: %w", p.LastGoodName, err)
	}
	p.Recorder.LastGoodWrite(metrics.Succeeded)
	return nil
}

// errNotFirst says that there are records which this replica has not seen yet.
var errNotFirst = errors.New("another replica was first")

// write replaces the ConfigMap that was seen, or makes it where there is none: by
// applying it without data, as only what names its object can be allowed for this one
// name. Applying takes nothing away, so what another replica has put in meanwhile stays.
func (p *Policies) write(ctx context.Context, object, lastGood *corev1.ConfigMap) error {
	if lastGood != nil {
		object.ResourceVersion = lastGood.ResourceVersion
		return p.Writer.Update(ctx, object)
	}
	empty := applycorev1.ConfigMap(object.Name, object.Namespace).WithLabels(object.Labels)
	if err := p.Writer.Apply(ctx, empty, client.FieldOwner(lastGoodManager), client.ForceOwnership); err != nil {
		return err
	}
	if len(empty.Data) > 0 {
		return errNotFirst
	}
	object.ResourceVersion = *empty.ResourceVersion
	return p.Writer.Update(ctx, object)
}

// wantedRecords are what this replica's documents in force and the cluster's
// records make together. A record goes only when a younger good document is seen
// or its entry is gone: a replica that lags behind must not take it away.
func wantedRecords(snapshot *policy.Snapshot, records map[string]policy.Record) map[string]policy.Record {
	wanted := map[string]policy.Record{}
	ours := snapshot.Records()
	for name, record := range records {
		entry, known := snapshot.Lookup(name)
		if known && entry.Source.UID == record.UID && (entry.LastGood() || entry.Version() <= record.Version) {
			wanted[name] = record
		}
	}
	for name, record := range ours {
		if kept, recorded := wanted[name]; !recorded || record.Version > kept.Version {
			wanted[name] = record
		}
	}
	return wanted
}
