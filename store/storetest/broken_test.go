package storetest

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/pim-im/pim/store"
	"pgregory.net/rapid"
)

// failing is a test that is expected to fail. It prints nothing.
type failing struct {
	rapid.TB
	mu     sync.Mutex
	failed bool
}

func (f *failing) Errorf(string, ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = true
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *failing) Error(...any) { f.Errorf("") }
func (f *failing) Fatal(...any) { f.Fatalf("") }
func (f *failing) Helper()      {}

func (f *failing) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// changed is a store that changes writes before they begin, and reads after they end.
type changed struct {
	store.Store
	write func(store.Store, *store.Write)
	read  func(*store.Read)
}

func (c changed) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		other := *w
		if c.write != nil {
			c.write(c.Store, &other)
		}
		c.Store.Begin(ctx, []*store.Write{&other}, d, func(*store.Write) {
			w.Err = other.Err
			done(w)
		})
	}
}

func (c changed) Read(ctx context.Context, reads []store.Read) error {
	err := c.Store.Read(ctx, reads)
	for i := range reads {
		if c.read != nil && reads[i].Err == nil {
			c.read(&reads[i])
		}
	}
	return err
}

// Engines that break what is promised of a trim, or of a cell that is forgotten for good, do not
// pass the suite.
func TestBrokenTrims(t *testing.T) {
	memory := NewMemory
	for name, test := range map[string]struct {
		run    func(*suite)
		broken func() store.Store
	}{
		"it does nothing": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), write: func(_ store.Store, w *store.Write) { w.Trim = 0 }}
		}},
		"it takes one record too many": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), write: func(s store.Store, w *store.Write) {
				if last, _, _ := store.LogEnd(context.Background(), s, w.Log); w.Trim > 0 && w.Trim < last {
					w.Trim++
				}
			}}
		}},
		"it raises the fence": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), write: func(s store.Store, w *store.Write) {
				if w.Trim > 0 {
					_ = store.Commit(context.Background(), s, []*store.Write{raise(w.Log)}, store.Durable)
				}
			}}
		}},
		"a read below the front is one of records that are not there yet": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), read: func(r *store.Read) { r.First = max(r.From, 1) }}
		}},
		"a trim beyond the last seq takes all": {(*suite).trimsOfNothing, func() store.Store {
			return changed{Store: memory(), write: func(s store.Store, w *store.Write) {
				if last, _, _ := store.LogEnd(context.Background(), s, w.Log); w.Trim > last {
					w.Trim = last
				}
			}}
		}},
		"a refused trim writes its cells": {(*suite).trimsOfNothing, func() store.Store {
			return changed{Store: memory(), write: func(s store.Store, w *store.Write) {
				_ = store.Commit(context.Background(), s, []*store.Write{{Cells: w.Cells}}, store.Durable)
			}}
		}},
		"no read tells the front": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), read: func(r *store.Read) { r.Front = min(r.Front, 1) }}
		}},
		"its cells are lost": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), write: func(_ store.Store, w *store.Write) {
				if w.Trim > 0 {
					w.Cells = nil
				}
			}}
		}},
		"a trim depends on the last seq": {(*suite).trims, func() store.Store {
			return changed{Store: memory(), write: func(s store.Store, w *store.Write) {
				if last, _, _ := store.LogEnd(context.Background(), s, w.Log); w.Trim > 0 && w.After != last {
					w.Trim = 0
				}
			}}
		}},
		"cells are not forgotten for good": {(*suite).forgetsForGood, func() store.Store {
			return changed{Store: memory(), write: func(_ store.Store, w *store.Write) {
				w.Cells = slices.DeleteFunc(w.Cells, func(c store.CellWrite) bool { return c.Forget })
			}}
		}},
		"a cell that is forgotten for good is there without a value": {(*suite).forgetsForGood, func() store.Store {
			return changed{Store: memory(), write: func(_ store.Store, w *store.Write) {
				for i := range w.Cells {
					w.Cells[i].Forget = false
				}
			}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failing{}
			var running sync.WaitGroup
			running.Go(func() { test.run(&suite{TB: f, ctx: context.Background(), store: test.broken()}) })
			running.Wait()
			if !f.Failed() {
				t.Error("not noticed")
			}
		})
	}
}
