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

// Loosened is a store that does no more than the contract says, see Loose.
type Loosened struct {
	store.Store

	mu   sync.Mutex
	rng  *rand.Rand
	rate float64
}

// Loose returns s as a distributed engine would behave. The writes of a Commit
// take effect one after the other, in any order, and each one's cells one by one
// after its append, with other callers in between. Once FailRate is set, a write
// may end with ErrUnknown, having had no effect, or its append's alone, or that
// of some of its cells too, or all of its effect. The same seed makes the same
// choices, for callers that do not race.
func Loose(s store.Store, seed uint64) *Loosened {
	return &Loosened{Store: s, rng: rand.New(rand.NewPCG(seed, 0))}
}

// FailRate sets the part of the writes, 0 to 1, that end with ErrUnknown. At
// first it is 0.
func (l *Loosened) FailRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// errLost is what a client sees of a timeout, or of a connection that broke.
var errLost = &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: "no answer from the replicas", Err: store.ErrUnknown}

// Commit implements store.Store.
func (l *Loosened) Commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	l.refuseSecond(writes)
	for _, i := range l.order(len(writes)) {
		if w := writes[i]; w.Err == nil {
			w.Err = l.write(ctx, w, d)
		}
		runtime.Gosched()
	}
	for _, w := range writes {
		var conflict *store.ConflictError
		if w.Err != nil && !errors.As(w.Err, &conflict) {
			return w.Err
		}
	}
	return nil
}

// refuseSecond gives every write an outcome that can have none of its own: nil,
// or the error of a second append to a log.
func (l *Loosened) refuseSecond(writes []*store.Write) {
	seen := map[store.Log]bool{}
	for _, w := range writes {
		w.Err = nil
		if len(w.Records) == 0 {
			continue
		}
		if seen[w.Log] {
			w.Err = pim.Errorf(pim.KindInvalid, "a second append to %q in one commit", w.Log)
		}
		seen[w.Log] = true
	}
}

// write carries out one write, step by step, up to the step before which the
// answer is lost.
func (l *Loosened) write(ctx context.Context, w *store.Write, d store.Durability) error {
	if err := w.Check(d); err != nil {
		return err
	}
	steps := []*store.Write{{Log: w.Log, After: w.After, Records: w.Records}}
	for _, i := range l.order(len(w.Cells)) {
		steps = append(steps, &store.Write{Cells: slices.Clone(w.Cells[i : i+1])})
	}
	lost := l.lostBefore(len(steps))
	for i, step := range steps {
		if i == lost {
			return errLost
		}
		err := l.Store.Commit(ctx, []*store.Write{step}, d)
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

// order returns the numbers below n in some order.
func (l *Loosened) order(n int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Perm(n)
}

// lostBefore returns before which of the steps the answer is lost: one of them,
// or after the last, or not at all (-1).
func (l *Loosened) lostBefore(steps int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rng.Float64() >= l.rate {
		return -1
	}
	return l.rng.IntN(steps + 1)
}
