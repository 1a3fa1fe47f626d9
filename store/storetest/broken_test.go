package storetest

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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
		"a forget takes what is newer": {(*suite).forgetsOlder, func() store.Store {
			return changed{Store: memory(), write: func(_ store.Store, w *store.Write) {
				for i := range w.Cells {
					if w.Cells[i].Forget {
						w.Cells[i].Version = store.MaxVersion
					}
				}
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

// An engine that calls an append a conflict which has taken effect does not pass the suite.
func TestConflictsThatHaveTakenEffect(t *testing.T) {
	f := &failing{}
	var running sync.WaitGroup
	running.Go(func() {
		(&suite{TB: f, ctx: context.Background(), store: &mistaken{Store: NewMemory()}}).conflictsAreFinal()
	})
	running.Wait()
	if !f.Failed() {
		t.Error("not noticed")
	}
}

// mistaken calls each fifth append a conflict that has taken effect.
type mistaken struct {
	store.Store
	appends atomic.Int64
}

func (m *mistaken) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	m.Store.Begin(ctx, writes, d, func(w *store.Write) {
		if w.Err == nil && len(w.Records) > 0 && m.appends.Add(1)%5 == 0 {
			w.Err = &store.ConflictError{Log: w.Log, Last: w.After + 1}
		}
		done(w)
	})
}

// lagging is a store in which writes become durable later: with a durable write, or a barrier.
type lagging struct {
	store.Store
	mu              sync.Mutex
	durable, behind []*store.Write
	idle            bool // a barrier does nothing
}

func (l *lagging) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind = append(l.behind, writes...)
	l.Store.Begin(ctx, writes, d, done)
	if d == store.Durable {
		l.durable, l.behind = append(l.durable, l.behind...), nil
	}
}

func (l *lagging) Barrier(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.idle {
		l.durable, l.behind = append(l.durable, l.behind...), nil
	}
	return ctx.Err()
}

func (l *lagging) crash() store.Store {
	left := &lagging{Store: NewMemory(), durable: l.durable, idle: l.idle}
	for _, w := range left.durable {
		_ = store.Commit(context.Background(), left.Store, []*store.Write{w}, store.Durable)
	}
	return left
}

// An engine whose barrier does nothing does not pass the suite, and one that only shows relaxed
// writes before they are durable does.
func TestBrokenBarrier(t *testing.T) {
	for _, idle := range []bool{false, true} {
		f := &failing{TB: t}
		var ended sync.WaitGroup
		ended.Go(func() {
			s := &suite{TB: f, ctx: context.Background(), store: &lagging{Store: NewMemory(), idle: idle}}
			s.crash = func() store.Store { return s.store.(*lagging).crash() }
			s.barriers()
		})
		ended.Wait()
		if f.Failed() != idle {
			t.Errorf("the barrier does nothing: %t; the suite fails: %t", idle, f.Failed())
		}
	}
}
