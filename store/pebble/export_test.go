package pebble

import (
	"context"
	"errors"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
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

// SetFormat makes the store one of another layout.
func (s *Store) SetFormat(version string) error {
	return s.db.Set([]byte{prefixFormat}, []byte(version), crdb.Sync)
}
