package pebble

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
)

// Pebble shows a batch when it is applied, and that is before its fsync. Logs are held back until
// then (logs.go), cells are not: for a caller who must know that what it has seen is durable there
// is Barrier. It costs nothing if everything that was applied has been synced. Otherwise it takes an
// fsync, which all share who call Barrier until it begins, and Pebble has it done with those of
// commits.

// barrier counts the batches, and holds those who wait for an fsync.
type barrier struct {
	begun  atomic.Uint64 // batches, counted before they are applied
	ended  atomic.Uint64 // batches, counted after that
	synced atomic.Uint64 // ended, as it was when the last successful fsync began

	mu      sync.Mutex
	next    *synced // the fsync that has not begun; nil if nobody waits for one
	running bool    // somebody carries them out
}

// synced is an fsync for all who called Barrier before it began.
type synced struct {
	done chan struct{}
	err  error
}

// durable reports whether every batch that anybody may have seen is durable. If as many batches have
// begun as had ended when an fsync began, then no other one has begun, and those are durable.
func (b *barrier) durable() bool {
	begun := b.begun.Load()
	return b.synced.Load() >= begun
}

// note notes that everything is durable of which ended was counted.
func (b *barrier) note(ended uint64) {
	for old := b.synced.Load(); old < ended && !b.synced.CompareAndSwap(old, ended); old = b.synced.Load() {
	}
}

// Barrier implements store.Store.
func (s *Store) Barrier(ctx context.Context) error {
	if err := s.enterRead(ctx); err != nil {
		return err
	}
	defer s.leave(1)
	if s.barrier.durable() {
		return nil
	}
	next, err := s.nextSync()
	if err != nil {
		return err
	}
	if err := await(ctx, next.done); err != nil {
		return err
	}
	return next.err
}

// nextSync returns the next fsync, and has it carried out.
func (s *Store) nextSync() (*synced, error) {
	b := &s.barrier
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		if !b.running {
			if err := s.enter(1); err != nil { // Close waits for the fsync, not only for who asked
				return nil, err
			}
			b.running = true
			go s.syncBarriers()
		}
		b.next = &synced{done: make(chan struct{})}
	}
	return b.next, nil
}

// syncBarriers carries out one fsync after the other while somebody waits.
func (s *Store) syncBarriers() {
	defer s.leave(1)
	b := &s.barrier
	for {
		b.mu.Lock()
		next := b.next
		b.next, b.running = nil, next != nil
		b.mu.Unlock()
		if next == nil {
			return
		}
		if err := s.fsync(); err != nil {
			next.err = &pim.Error{Op: "barrier", Kind: pim.KindOf(err), Text: "what was read may not be durable: " + err.Error(), Err: err}
		}
		close(next.done)
	}
}
