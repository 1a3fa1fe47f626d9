package pebble

import (
	"context"
	"time"
)

// Hurried returns o with everything that is done now and then done all the time,
// and with the smallest of tables and caches.
func (o Options) Hurried() Options {
	o.watchInterval = time.Millisecond
	o.cachedLogs = 4
	return o
}

// Sweep drops what has expired, as the sweeper does every hour.
func (s *Store) Sweep() error { return s.sweep() }

// Flush writes the memtable out.
func (s *Store) Flush() error { return s.db.Flush() }

// Compact compacts everything.
func (s *Store) Compact() error {
	return s.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false)
}
