package writers

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// gate is a store at which every call waits until the schedule lets it go on, so the schedule
// decides in which order calls take effect.
type gate struct {
	store   store.Store
	history *imtest.History // of the cells

	mu    sync.Mutex
	calls []*call // that have come since the schedule looked last
}

// call is a call that waits at the gate.
type call struct {
	by    *line        // nil: its caller is gone
	what  string       // for people, and to sort by
	write *store.Write // what takes effect if the call goes on; nil: nothing does
	next  chan verdict
}

// verdict is what the schedule decides about a call.
type verdict struct {
	err  error // the call ends with it
	slow bool  // the call waits again, after it has taken effect
}

var (
	errLost = &pim.Error{Kind: pim.KindUnavailable, Text: "no answer from the store", Err: store.ErrUnknown}
	errDead = &pim.Error{Kind: pim.KindUnavailable, Text: "the writer is dead", Err: store.ErrUnknown}
	errRead = &pim.Error{Kind: pim.KindUnavailable, Text: "the store cannot be read now"}
)

// arrived returns the calls that have come since it was called last.
func (g *gate) arrived() []*call {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := g.calls
	g.calls = nil
	slices.SortStableFunc(calls, func(a, b *call) int { return cmp.Compare(a.what, b.what) })
	return calls
}

// line is the way of one writer to the gate. It ends when the writer is killed.
type line struct {
	gate *gate
	name string
	dead bool // guarded by gate.mu
}

// wait waits until the schedule lets a call go on.
func (l *line) wait(write *store.Write, format string, args ...any) verdict {
	c := &call{by: l, what: l.name + " " + fmt.Sprintf(format, args...), write: write, next: make(chan verdict, 1)}
	l.gate.mu.Lock()
	if l.dead {
		l.gate.mu.Unlock()
		return verdict{err: errDead}
	}
	l.gate.calls = append(l.gate.calls, c)
	l.gate.mu.Unlock()
	return <-c.next
}

// read waits at the gate, calls f, and waits again if the schedule says so.
func (l *line) read(f func() error, format string, args ...any) error {
	v := l.wait(nil, format, args...)
	if v.err != nil {
		return v.err
	}
	if err := f(); err != nil || !v.slow {
		return err
	}
	return l.wait(nil, "hears of "+format, args...).err
}

// Begin implements store.Store.
func (l *line) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		what := fmt.Sprintf("writes (%d) %s", ctx.Value(numberKey{}), describe(w))
		v := l.wait(w, "%s", what)
		if w.Err = v.err; v.err == nil {
			l.gate.commit(ctx, w, d)
			if v.slow {
				w.Err = cmp.Or(l.wait(nil, "hears of %s", what).err, w.Err)
			}
		}
		done(w)
	}
}

func (g *gate) commit(ctx context.Context, w *store.Write, d store.Durability) {
	if err := store.Commit(ctx, g.store, []*store.Write{w}, d); err != nil {
		w.Err = err
	}
	for _, c := range w.Cells {
		if w.Err == nil {
			g.history.Wrote(string(c.Partition), c.Key, c.Version, d == store.Durable)
		}
		if c.Forget {
			g.history.Forgot(string(c.Partition), c.Key, c.Version)
		}
	}
}

// describe says what w writes.
func describe(w *store.Write) string {
	if len(w.Records) > 0 {
		return fmt.Sprintf("%d after seq %d of %s, fence %d,", len(w.Records), w.After, w.Log, w.Fence)
	}
	if w.Raise && len(w.Cells) == 0 {
		return fmt.Sprintf("a raise of the fence of %s", w.Log)
	}
	s := "cells"
	for _, c := range w.Cells {
		s += fmt.Sprintf(" %s %d", c.Partition, c.Version)
	}
	return s
}

// Barrier implements store.Store.
func (l *line) Barrier(ctx context.Context) error { return l.gate.store.Barrier(ctx) }

// Read implements store.Store.
func (l *line) Read(ctx context.Context, reads []store.Read) (first error) {
	for i := range reads {
		r := &reads[i]
		text, of := "asks for the end of %s", []any{r.Log}
		if r.Limit != (store.Limit{}) {
			text, of = "reads %s from %d to %d", append(of, r.From, r.To)
		}
		if err := l.read(func() error { return l.gate.store.Read(ctx, reads[i:i+1]) }, text, of...); err != nil {
			r.First, r.Records, r.Last, r.Fence, r.Front, r.Err = 0, nil, 0, 0, 0, err
		}
		if first == nil {
			first = r.Err
		}
	}
	return first
}

// Get implements store.Store.
func (l *line) Get(ctx context.Context, gets []store.Get) (first error) {
	for i := range gets {
		g := &gets[i]
		err := l.read(func() error {
			since := l.gate.history.Now()
			err := l.gate.store.Get(ctx, gets[i:i+1])
			if err == nil && (g.Cell.Version != 0 || !g.Partition.Passing()) { // it may be forgotten
				l.gate.history.Saw(since, string(g.Partition), g.Key, g.Cell.Version)
			}
			return err
		}, "gets a cell of %s", g.Partition)
		if err != nil {
			g.Cell, g.Err = store.Cell{}, err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// List implements store.Store.
func (l *line) List(ctx context.Context, p store.Partition, after string, limit int) (cells []store.Cell, err error) {
	err = l.read(func() (err error) {
		since := l.gate.history.Now()
		cells, err = l.gate.store.List(ctx, p, after, limit)
		for _, c := range cells {
			l.gate.history.Saw(since, string(p), c.Key, c.Version)
		}
		return err
	}, "lists %s after %q", p, after)
	return cells, err
}

// Health implements store.Store.
func (l *line) Health() error { return l.gate.store.Health() }

// Close implements store.Store.
func (l *line) Close() error { return nil }

// engine is the store that a writer gets: a Loose one before its line. Each write is carried
// out on a goroutine of its own, since it waits at the gate.
type engine struct {
	*line
	fail func() float64

	mu     sync.Mutex // guards what follows: trims that go on at the same moment begin writes side by side
	rng    *rand.Rand // drawn from by Begin
	writes int        // that have begun; their numbers tell apart what comes at the same time
}

// numberKey is the key of a write's number in the context of its steps.
type numberKey struct{}

// Begin implements store.Store.
func (e *engine) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		e.mu.Lock()
		e.writes++
		ctx := context.WithValue(ctx, numberKey{}, e.writes)
		loose := storetest.Loose(e.line, e.rng.Uint64())
		loose.FailRate(e.fail())
		e.mu.Unlock()
		part := *w
		part.Cells = slices.SortedFunc(slices.Values(w.Cells), func(a, b store.CellWrite) int {
			return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Version, b.Version))
		}) // the same choices of loose give the same run
		go loose.Begin(ctx, []*store.Write{&part}, d, func(*store.Write) {
			w.Err = part.Err
			done(w)
		})
	}
}

// copyOf returns a copy of w that shares nothing with w. It is a write whose caller has been
// told something else, or is gone.
func copyOf(w *store.Write) *store.Write {
	c := *w
	c.Owner, c.Err = nil, nil
	c.Records, c.Cells = slices.Clone(w.Records), slices.Clone(w.Cells)
	for i := range c.Records {
		c.Records[i] = bytes.Clone(c.Records[i])
	}
	for i := range c.Cells {
		c.Cells[i].Value = bytes.Clone(c.Cells[i].Value)
	}
	return &c
}
