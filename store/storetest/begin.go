package storetest

import (
	"context"
	"slices"

	"github.com/pim-im/pim/store"
)

// Commit carries out writes and waits for all of them, as store.Commit does. It sets the
// Err of each write, or returns an error that is the outcome of every write.
type Commit func(ctx context.Context, writes []*store.Write, d store.Durability) error

// Begin implements the Begin of a test's store by commit, which it calls on a new goroutine.
func Begin(ctx context.Context, commit Commit, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	writes = slices.Clone(writes)
	go BeginHere(ctx, commit, writes, d, done)
}

// BeginHere does the same on the caller's goroutine: all writes are done when it returns.
func BeginHere(ctx context.Context, commit Commit, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		w.Err = nil
	}
	err, own := commit(ctx, writes, d), false
	for _, w := range writes {
		own = own || w.Err != nil
	}
	for _, w := range writes {
		if !own {
			w.Err = err
		}
		done(w)
	}
}
