package pebble

import (
	"context"
	"errors"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Hurried returns o with everything that is done now and then done all the time,
// and with the smallest of tables and caches.
func (o Options) Hurried() Options {
	o.watchInterval = time.Millisecond
	o.cachedLogs = 4
	return o
}

// Sweep notes the age and drops what has expired, as the sweeper does every ten
// minutes.
func (s *Store) Sweep() error { return errors.Join(s.noteAge(), s.sweep()) }

// Age returns the store's age.
func (s *Store) Age() time.Duration { return time.Duration(s.age.now()) * time.Millisecond }

// SetAge makes the store older or younger.
func (s *Store) SetAge(d time.Duration) { s.age.before += pim.Millis(d/time.Millisecond) - s.age.now() }

// ForgetAge makes the store one of a version that noted no age.
func (s *Store) ForgetAge() error {
	s.health.set(hasFailed, pim.Errorf(pim.KindUnavailable, "so that Close notes none"))
	return s.db.Delete(ageKey, crdb.Sync)
}

// Flush writes the memtable out.
func (s *Store) Flush() error { return s.db.Flush() }

// Compact compacts everything.
func (s *Store) Compact() error {
	return s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)
}

// Keys returns how many keys begin with prefix.
func (s *Store) Keys(prefix byte) (n int) {
	it, err := s.db.NewIter(&crdb.IterOptions{LowerBound: []byte{prefix}, UpperBound: []byte{prefix + 1}})
	if err != nil {
		panic(err)
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n
}

// Format returns the version of the layout that the store says it has.
func (s *Store) Format() string {
	value, closer, err := s.db.Get([]byte{prefixFormat})
	if err != nil {
		panic(err)
	}
	defer closer.Close()
	return string(value)
}

// Generation returns the present generation of a passing partition.
func (s *Store) Generation(p store.Partition) int {
	g, err := s.generation(p)
	if err != nil {
		panic(err)
	}
	return int(g)
}

// Turn moves a passing partition to its next generation, if that saves anything.
func (s *Store) Turn(p store.Partition) { s.turn(p) }

// ForgetGenerations empties the memory of generations.
func (s *Store) ForgetGenerations() {
	for i := range s.passing.parts {
		part := &s.passing.parts[i]
		part.mu.Lock()
		clear(part.of)
		part.mu.Unlock()
	}
}

// ListSteps is List of a passing partition, with the steps that it takes.
func (s *Store) ListSteps(p store.Partition, limit int) ([]store.Cell, int) {
	lower, upper := passingBounds(generation(s.Generation(p)), p, "")
	_, steps, err := s.listRange(lower, upper, passingKeyLen(p, ""), limit)
	if err != nil {
		panic(err)
	}
	cells, err := s.List(context.Background(), p, "", limit)
	if err != nil {
		panic(err)
	}
	return cells, steps
}

// SetFormat makes the store one of another layout.
func (s *Store) SetFormat(version string) error {
	return s.db.Set([]byte{prefixFormat}, []byte(version), crdb.Sync)
}
