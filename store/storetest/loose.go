package storetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Loosened is a store that promises no more than the contract, see Loose.
type Loosened struct {
	store.Store

	mu   sync.Mutex
	rng  *rand.Rand
	rate float64
}

// Loose wraps s so that it behaves like a distributed engine. The writes of a Begin take
// effect one after the other, in any order. The cells of a write take effect one by one,
// after its append and before its fence is raised. Other callers run in between. A read may
// return fewer records than would fit. Once FailRate is set, a write may end with ErrUnknown;
// then nothing of it has taken effect, or its first steps, or all of it. The same seed makes
// the same choices if callers do not race.
func Loose(s store.Store, seed uint64) *Loosened {
	return &Loosened{Store: s, rng: rand.New(rand.NewPCG(seed, 0))}
}

// FailRate sets the fraction of writes, from 0 to 1, that end with ErrUnknown. Until it is
// called the fraction is 0.
func (l *Loosened) FailRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// errLost is the error that a client gets after a timeout or on a broken connection.
var errLost = &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: "no answer from the replicas", Err: store.ErrUnknown}

// Begin implements store.Store. All writes are done when it returns, each as soon as it
// has been carried out.
func (l *Loosened) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, i := range l.order(len(writes)) {
		w := writes[i]
		w.Err = l.write(ctx, w, d)
		done(w)
		runtime.Gosched()
	}
}

// write carries out one write step by step: the append, then each cell, then the raise of
// the fence. If the answer is to be lost, write stops before a random step, or after the
// last one.
func (l *Loosened) write(ctx context.Context, w *store.Write, d store.Durability) error {
	if err := w.Check(d); err != nil {
		return err
	}
	steps := []*store.Write{{Log: w.Log, After: w.After, Fence: w.Fence, Records: w.Records}}
	for _, i := range l.order(len(w.Cells)) {
		steps = append(steps, &store.Write{Cells: slices.Clone(w.Cells[i : i+1])})
	}
	if w.Raise {
		steps = append(steps, &store.Write{Log: w.Log, Raise: true})
	}
	lost := l.lostBefore(len(steps))
	for i, step := range steps {
		if i == lost {
			return errLost
		}
		err := store.Commit(ctx, l.Store, []*store.Write{step}, d)
		if err == nil {
			err = step.Err
		}
		if err != nil {
			return l.midway(i, err)
		}
		runtime.Gosched()
	}
	if lost == len(steps) {
		return errLost
	}
	return nil
}

// midway returns the outcome of a write whose i-th step failed with err.
func (l *Loosened) midway(i int, err error) error {
	if i == 0 || errors.Is(err, store.ErrUnknown) {
		return err
	}
	return &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: err.Error(), Err: errors.Join(store.ErrUnknown, err)}
}

// Read implements store.Store. It cuts one read in four short.
func (l *Loosened) Read(ctx context.Context, reads []store.Read) error {
	err := l.Store.Read(ctx, reads)
	for i := range reads {
		if r := &reads[i]; len(r.Records) > 1 {
			r.Records = r.Records[:l.cut(len(r.Records))]
		}
	}
	return err
}

// cut returns how many of n records, at least one, a read returns.
func (l *Loosened) cut(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rng.IntN(4) > 0 {
		return n
	}
	return 1 + l.rng.IntN(n)
}

// order returns the numbers below n in a random order.
func (l *Loosened) order(n int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Perm(n)
}

// lostBefore returns the step before which the answer is lost. If it returns steps, the
// answer is lost after the last step; if it returns -1, the answer is not lost.
func (l *Loosened) lostBefore(steps int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rng.Float64() >= l.rate {
		return -1
	}
	return l.rng.IntN(steps + 1)
}
