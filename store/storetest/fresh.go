package storetest

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// told is the greatest number that a call has told its caller.
type told struct{ atomic.Uint64 }

func (t *told) raise(n uint64) {
	for old := t.Load(); n > old; old = t.Load() {
		if t.CompareAndSwap(old, n) {
			return
		}
	}
}

// meanwhile calls do, and look again and again on three goroutines until do has returned. A
// goroutine ends early if look returns false.
func meanwhile(do func(), look func() bool) {
	var over atomic.Bool
	var looking sync.WaitGroup
	for range 3 {
		looking.Go(func() {
			for !over.Load() && look() {
			}
		})
	}
	do()
	over.Store(true)
	looking.Wait()
}

// logIsFresh appends to a log and reads it at the same time. Whatever one call has told of
// the log, calls that begin later know: a seq that was acknowledged, the last seq in a
// conflict, a last seq that was read, a record that was read.
func (s *suite) logIsFresh() {
	var seqs told
	appends := func() {
		for range 50 {
			known := pim.Seq(seqs.Load())
			w := appendTo("log", known, "x")
			if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable); err != nil {
				s.Errorf("commit: %v", err)
				return
			}
			var conflict *store.ConflictError
			switch {
			case w.Err == nil:
				seqs.raise(uint64(known) + 1)
			case errors.As(w.Err, &conflict) && conflict.Last > known:
				seqs.raise(uint64(conflict.Last))
			default:
				s.Errorf("append after %d: %v", known, w.Err)
				return
			}
		}
	}
	look := func() bool {
		known := pim.Seq(seqs.Load())
		last, _, err := store.LogEnd(s.ctx, s.store, "log")
		if err != nil || last < known {
			s.Errorf("last: %d, %v; a call before told of seq %d", last, err, known)
			return false
		}
		seqs.raise(uint64(last))
		known = pim.Seq(seqs.Load())
		records, err := store.ReadLog(s.ctx, s.store, "log", max(known, 1), 0, much)
		if err != nil || known > 0 && len(records) == 0 {
			s.Errorf("read from %d: %d records, %v; a call before told of that seq", known, len(records), err)
			return false
		}
		if len(records) > 0 {
			seqs.raise(uint64(max(known, 1)) + uint64(len(records)) - 1)
		}
		return true
	}
	meanwhile(func() {
		var appending sync.WaitGroup
		for range 3 {
			appending.Go(appends)
		}
		appending.Wait()
	}, look)
}

// cellsAreFresh writes a cell and reads it at the same time. A call that begins after a
// write has ended sees the write, also if it was relaxed.
func (s *suite) cellsAreFresh() {
	var versions told
	meanwhile(func() {
		for v := range uint64(100) {
			d := store.Durability(v%4 == 0)
			w := &store.Write{Cells: []store.CellWrite{cell("p", "k", v+1, "v")}}
			if err := store.Commit(s.ctx, s.store, []*store.Write{w}, d); err != nil {
				s.Errorf("commit: %v", err)
				return
			}
			versions.raise(v + 1)
		}
	}, func() bool {
		known := versions.Load()
		c, _, err := store.Lookup(s.ctx, s.store, "p", "k")
		if err != nil || c.Version < known {
			s.Errorf("get: version %d, %v; version %d is written", c.Version, err, known)
			return false
		}
		cells, err := s.store.List(s.ctx, "p", "", 9)
		if err != nil || known > 0 && (len(cells) != 1 || cells[0].Version < known) {
			s.Errorf("list: %v, %v; version %d is written", cells, err, known)
			return false
		}
		return true
	})
}
