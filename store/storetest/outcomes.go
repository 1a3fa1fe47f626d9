package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// outcomes begins writes that succeed, conflict, are invalid, and come with a cancelled context
// or after Close. done is called once for each, with its Err set. The slice is the caller's
// again when Begin returns.
func (s *suite) outcomes() {
	var mu sync.Mutex
	calls := map[*store.Write]int{}
	failed := map[*store.Write]error{}
	begin := func(ctx context.Context, d store.Durability, writes ...*store.Write) {
		outcomes := make(chan *store.Write, 2*len(writes))
		given := slices.Clone(writes)
		for _, w := range writes {
			w.Err = errors.New("of an earlier commit")
		}
		s.store.Begin(ctx, given, d, func(w *store.Write) {
			mu.Lock()
			defer mu.Unlock()
			calls[w]++
			failed[w] = w.Err
			outcomes <- w
		})
		clear(given)
		for range writes {
			<-outcomes
		}
	}
	is := func(what string, w *store.Write, ok func(error) bool) {
		s.Helper()
		mu.Lock()
		defer mu.Unlock()
		if calls[w] != 1 || failed[w] != w.Err || !ok(w.Err) {
			s.Errorf("%s: %d outcomes, the last is %v, Err is %v", what, calls[w], failed[w], w.Err)
		}
	}
	conflicts := func(err error) bool {
		var conflict *store.ConflictError
		return errors.As(err, &conflict)
	}
	succeeds := func(err error) bool { return err == nil }
	of := func(kind pim.Kind) func(error) bool {
		return func(err error) bool { return pim.KindOf(err) == kind && !errors.Is(err, store.ErrUnknown) }
	}
	cells := func() *store.Write { return &store.Write{Cells: []store.CellWrite{cell("p", "k", 1, "v")}} }
	one, other, conflict, invalid, plain := appendTo("one", 0, "x"), appendTo("other", 0, "x"), appendTo("third", 7, "x"), appendTo("", 0, "x"), cells()
	nothing, relaxed := &store.Write{}, cells()
	begin(s.ctx, store.Durable)
	begin(s.ctx, store.Durable, one, conflict, invalid, other, plain, nothing)
	begin(s.ctx, store.Relaxed, relaxed)
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	cancelled := []*store.Write{appendTo("one", 1, "y"), cells()}
	begin(ended, store.Durable, cancelled...)
	s.ends("one", 1)
	s.end()
	closed := []*store.Write{appendTo("one", 1, "z"), cells()}
	begin(s.ctx, store.Durable, closed...)
	is("an append", one, succeeds)
	is("another append", other, succeeds)
	is("a conflict", conflict, conflicts)
	is("an invalid write", invalid, of(pim.KindInvalid))
	is("a write of cells", plain, succeeds)
	is("a write of nothing", nothing, succeeds)
	is("a relaxed write", relaxed, succeeds)
	for i := range cancelled {
		is("a write with a cancelled context", cancelled[i], func(err error) bool { return err != nil })
		is("a write after Close", closed[i], of(pim.KindUnavailable))
	}
}
