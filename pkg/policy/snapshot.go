package policy

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/bucket-access/bucket-access-webhook/pkg/iam"
)

// ConfigMap is what a Snapshot is built from: one ConfigMap that holds policies.
type ConfigMap struct {
	Namespace, Name, UID string
	Created              time.Time
	// Version is the resourceVersion as a number: of two states of one object the
	// greater is the younger.
	Version    uint64
	Data       map[string]string
	BinaryKeys []string
}

// Ref names the ConfigMap that an entry came from.
type Ref struct {
	Namespace, Name, UID string
}

// Record is a last good document as it is kept in the cluster.
type Record struct {
	ConfigMap string `json:"configMap"`
	UID       string `json:"uid"`
	Key       string `json:"key"`
	Document  string `json:"document"`
	// Version is the ConfigMap's, when the document was last seen to be good.
	Version uint64 `json:"version"`
}

// Entry is what is known under one policy name.
type Entry struct {
	Name   string
	Source Ref
	Key    string
	// Policy is in force; nil when no version of the entry was ever good.
	Policy *Policy
	// Errors are those of the document that is in the cluster. With a Policy
	// beside them, that is the last good one.
	Errors field.ErrorList

	text        string // the document in the cluster
	good        string // the document that Policy was parsed from
	goodVersion uint64 // the ConfigMap's version when good was last seen in it
}

// Version is the ConfigMap's version when the document in force was last seen in it.
func (e *Entry) Version() uint64 { return e.goodVersion }

// LastGood says that the document in the cluster is invalid and an earlier one is in force.
func (e *Entry) LastGood() bool { return len(e.Errors) > 0 && e.Policy != nil }

// Problem is a data key that defines no policy: a bad name, or a name that an
// older ConfigMap defines.
type Problem struct {
	Source Ref
	Key    string
	// Duplicate says that another key owns the name.
	Duplicate bool
	Errors    field.ErrorList
}

// Snapshot is the state of all policies at one moment. Immutable; nil is empty.
type Snapshot struct {
	entries  map[string]*Entry
	problems []Problem
	versions map[Ref]uint64
}

// Lookup finds an entry by name in constant time.
func (s *Snapshot) Lookup(name string) (*Entry, bool) {
	if s == nil {
		return nil, false
	}
	entry, ok := s.entries[name]
	return entry, ok
}

// Entries returns all entries ordered by name.
func (s *Snapshot) Entries() []*Entry {
	if s == nil {
		return nil
	}
	list := make([]*Entry, 0, len(s.entries))
	for _, entry := range s.entries {
		list = append(list, entry)
	}
	slices.SortFunc(list, func(a, b *Entry) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// OfRole returns the policies in force whose role it is, ordered by name. More than one is
// unwise: each ServiceAccount that one of them lists has what the role may do for all.
func (s *Snapshot) OfRole(role iam.RoleARN) []*Policy {
	var list []*Policy
	for _, entry := range s.Entries() {
		if entry.Policy != nil && entry.Policy.Role == role {
			list = append(list, entry.Policy)
		}
	}
	return list
}

// Problems returns the data keys that define no policy, ordered.
func (s *Snapshot) Problems() []Problem {
	if s == nil {
		return nil
	}
	return s.problems
}

// SourceVersion is the version of a ConfigMap that the snapshot was built from, 0 of another.
func (s *Snapshot) SourceVersion(source Ref) uint64 {
	if s == nil {
		return 0
	}
	return s.versions[source]
}

// Records returns what the cluster must remember: the document in force of every
// entry whose document in the cluster is invalid, by policy name.
func (s *Snapshot) Records() map[string]Record {
	records := map[string]Record{}
	if s == nil {
		return records
	}
	for name, entry := range s.entries {
		if entry.LastGood() {
			records[name] = Record{
				ConfigMap: entry.Source.Name, UID: entry.Source.UID, Key: entry.Key, Document: entry.good,
				Version: entry.goodVersion,
			}
		}
	}
	return records
}

// Build makes the next snapshot from all ConfigMaps that hold policies, the last
// good documents kept in the cluster, and the snapshot before (nil at start),
// which saves parsing what did not change. Linear in the number of data keys; only
// changed documents are parsed.
func Build(configMaps []ConfigMap, records map[string]Record, before *Snapshot) *Snapshot {
	next := &Snapshot{entries: map[string]*Entry{}, versions: make(map[Ref]uint64, len(configMaps))}
	for _, configMap := range oldestFirst(configMaps) {
		source := Ref{Namespace: configMap.Namespace, Name: configMap.Name, UID: configMap.UID}
		next.versions[source] = configMap.Version
		for _, key := range sortedKeys(configMap) {
			next.add(configMap, source, key, records, before)
		}
		for _, key := range configMap.BinaryKeys {
			err := invalid(field.NewPath("binaryData").Key(key), "policies are text; write them under data")
			next.problems = append(next.problems, Problem{Source: source, Key: key, Errors: field.ErrorList{err}})
		}
	}
	return next
}

func (s *Snapshot) add(from ConfigMap, source Ref, key string, records map[string]Record, before *Snapshot) {
	name, bad := Name(key)
	if bad != nil {
		s.problems = append(s.problems, Problem{Source: source, Key: key, Errors: field.ErrorList{bad}})
		return
	}
	if owner, taken := s.entries[name]; taken && owner.Policy != nil {
		err := invalid(field.NewPath("data").Key(key), "policy \""+name+"\" is defined by data["+owner.Key+"] of ConfigMap "+
			owner.Source.Name+", which is older or sorts first and wins; rename or remove one of them")
		s.problems = append(s.problems, Problem{Source: source, Key: key, Duplicate: true, Errors: field.ErrorList{err}})
		return
	}
	entry := &Entry{Name: name, Source: source, Key: key, text: from.Data[key]}
	idle, unclaimed := s.entries[name]
	previous, known := before.Lookup(name)
	if !known || previous.Source.UID != source.UID {
		previous = &Entry{}
	}
	record := records[name]
	if record.UID != source.UID {
		record = Record{}
	}
	entry.settle(from.Version, previous, record)
	// An entry that is not in force keeps no other from being so.
	if unclaimed {
		if entry.Policy == nil {
			idle, entry = entry, idle
		}
		s.problems = append(s.problems, Problem{Source: idle.Source, Key: idle.Key, Errors: idle.Errors})
	}
	s.entries[name] = entry
}

// settle decides which document is in force: the one in the cluster, else of what
// this process and the cluster remember the younger, so that all replicas end at
// the same answer whatever each of them has seen.
func (e *Entry) settle(version uint64, previous *Entry, record Record) {
	unchanged := previous.Key == e.Key && previous.text == e.text
	switch {
	case unchanged && previous.Policy != nil && len(previous.Errors) == 0:
		e.Policy = previous.Policy
	case unchanged:
		e.Errors = previous.Errors
	default:
		e.Policy, e.Errors = Parse(e.Key, e.text)
	}
	if len(e.Errors) == 0 {
		e.good, e.goodVersion = e.text, version
		return
	}
	e.Policy, e.good, e.goodVersion = previous.Policy, previous.good, previous.goodVersion
	if record.Document == "" || (e.Policy != nil && e.goodVersion >= record.Version) {
		return
	}
	if remembered, faults := Parse(record.Key, record.Document); len(faults) == 0 {
		e.Policy, e.good, e.goodVersion = remembered, record.Document, record.Version
	}
}

// oldestFirst orders by age, then name, so that the answer never depends on the
// order of a list.
func oldestFirst(configMaps []ConfigMap) []ConfigMap {
	sorted := slices.Clone(configMaps)
	slices.SortFunc(sorted, func(a, b ConfigMap) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name), strings.Compare(a.UID, b.UID))
	})
	return sorted
}

func sortedKeys(configMap ConfigMap) []string {
	keys := make([]string, 0, len(configMap.Data))
	for key := range configMap.Data {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
