package storetest

import (
	"context"
	"errors"
	"fmt"

	"github.com/pim-im/pim/store"
)

// barriers writes cells, some of them relaxed, and reads them while others are being written. What
// was read before a barrier is there after a crash.
func (s *suite) barriers() {
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := s.store.Barrier(ended); !errors.Is(err, context.Canceled) {
		s.Errorf("a barrier with a cancelled context: %v", err)
	}
	if s.crash == nil {
		if err := s.store.Barrier(s.ctx); err != nil {
			s.Errorf("barrier: %v", err)
		}
		return
	}
	version := func(key string) uint64 {
		c, _, err := store.Lookup(s.ctx, s.store, "p", key)
		if err != nil {
			s.Fatalf("get %q: %v", key, err)
		}
		return c.Version
	}
	for round := range uint64(20) {
		outcomes := make(chan error, 40)
		for i := range cap(outcomes) {
			d := store.Durability(i%2 == 0)
			w := &store.Write{Cells: []store.CellWrite{cell("p", fmt.Sprint("k", i%4), round*10+uint64(i)+1, "v")}}
			s.store.Begin(s.ctx, []*store.Write{w}, d, func(w *store.Write) { outcomes <- w.Err })
		}
		for range 10 { // the others have no outcome yet, perhaps
			if err := <-outcomes; err != nil {
				s.Fatalf("write: %v", err)
			}
		}
		var seen [4]uint64
		for i := range seen {
			seen[i] = version(fmt.Sprint("k", i))
		}
		if err := s.store.Barrier(s.ctx); err != nil {
			s.Fatalf("barrier: %v", err)
		}
		s.store = s.crash()
		for i := range seen {
			if got := version(fmt.Sprint("k", i)); got < seen[i] {
				s.Fatalf("a crash has taken version %d of a cell, which was read before a barrier: it has %d", seen[i], got)
			}
		}
	}
}
