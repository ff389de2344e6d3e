package policy

import (
	"sync"
	"sync/atomic"
)

// Store holds the snapshot in force. Reading never waits; updates are one after
// the other, so that each builds on the one before.
type Store struct {
	current atomic.Pointer[Snapshot]
	update  sync.Mutex
}

// Snapshot returns the snapshot in force; nil before the first Update.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// Update builds and swaps in the next snapshot, and returns it with the one before.
func (s *Store) Update(configMaps []ConfigMap, records map[string]Record) (next, before *Snapshot) {
	s.update.Lock()
	defer s.update.Unlock()
	before = s.current.Load()
	next = Build(configMaps, records, before)
	s.current.Store(next)
	return next, before
}
