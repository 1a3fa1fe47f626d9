package storetest

import (
	"bytes"
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

	mu      sync.Mutex // guards the fields below
	rng     *rand.Rand
	rate    float64
	late    []*lateWrite
	closed  bool
	running sync.WaitGroup // calls of Begin that go on; Add with mu held
}

// lateWrite is what is left of a write with an unknown outcome.
type lateWrite struct {
	steps      []*store.Write // the store's own copies
	durability store.Durability
}

// Loose wraps s so that it behaves like a distributed engine. Begin returns before or after
// the outcomes are known. The writes of a Begin take effect one after the other, in any order,
// and their outcomes come in another order. The erasures of a write take effect one by one,
// after its append, and then its cells, before its fence is raised or its log trimmed. Other
// callers run in between. A read may return fewer records than would fit. An append that conflicts, and
// whose seqs are trimmed, may end with ErrUnknown.
//
// Once FailRate is set, a write may end with ErrUnknown. Then nothing of it has taken effect,
// or its first steps, or all of it. What is missing comes before a later call, in steps between
// which other callers run, or never. And a get or a read may fail, by itself. The same seed
// makes the same choices if callers do not race.
func Loose(s store.Store, seed uint64) *Loosened {
	return &Loosened{Store: s, rng: rand.New(rand.NewPCG(seed, 0))}
}

// FailRate sets the fraction of writes, from 0 to 1, that end with ErrUnknown. A quarter of
// that is the fraction of gets and reads that fail. Until it is called both are 0.
func (l *Loosened) FailRate(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate = rate
}

// errLost is the error that a client gets after a timeout or on a broken connection, for a
// write, and errNoAnswer the one for a read.
var (
	errLost     = &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: "no answer from the replicas", Err: store.ErrUnknown}
	errNoAnswer = &pim.Error{Op: "read", Kind: pim.KindUnavailable, Text: "no answer from the replicas"}

	errForgotten = &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: "the records are trimmed, and nothing tells whose they were", Err: store.ErrUnknown}
)

// Begin implements store.Store.
func (l *Loosened) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	writes = slices.Clone(writes)
	rng := l.choices()
	if ctx.Err() != nil || rng.IntN(2) == 0 || !l.goesOn() {
		l.carryOut(ctx, rng, writes, d, done)
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer l.running.Done()
		l.carryOut(ctx, rng, writes, d, done)
	}()
}

// choices returns what a Begin draws its choices from, so that they do not depend on what other
// callers do meanwhile.
func (l *Loosened) choices() *rand.Rand {
	l.mu.Lock()
	defer l.mu.Unlock()
	return rand.New(rand.NewPCG(l.rng.Uint64(), 1))
}

// goesOn lets a Begin return before its outcomes are known, unless l is closed. If it returns
// true, the caller must call running.Done in the end.
func (l *Loosened) goesOn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.running.Add(1)
	return true
}

func (l *Loosened) carryOut(ctx context.Context, rng *rand.Rand, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	var held []*store.Write // their outcomes are told after those of the others
	for _, i := range rng.Perm(len(writes)) {
		w := writes[i]
		l.catchUp(ctx)
		if w.Err = l.write(ctx, rng, w, d); rng.IntN(2) == 0 {
			held = append(held, w)
		} else {
			done(w)
		}
		runtime.Gosched()
	}
	for _, i := range rng.Perm(len(held)) {
		done(held[i])
	}
}

// mostCellSteps bounds the steps of a write's cells: of very many cells some go in one step.
const mostCellSteps = 64

// write carries out one write step by step: the append, then each erasure, then each cell, then
// the raise of the fence, or the trim. If the answer is to be lost, write stops before a random step, or after
// the last one.
func (l *Loosened) write(ctx context.Context, rng *rand.Rand, w *store.Write, d store.Durability) error {
	if err := w.Check(d); err != nil {
		return err
	}
	if w.Trim != 0 {
		last, _, err := store.LogEnd(ctx, l.Store, w.Log)
		if err == nil {
			err = w.CheckTrim(last)
		}
		if err != nil {
			return err
		}
	}
	var steps []*store.Write
	if len(w.Records) > 0 || len(w.Erase) == 0 {
		steps = append(steps, &store.Write{Log: w.Log, After: w.After, Fence: w.Fence, Records: w.Records})
	}
	for _, i := range rng.Perm(len(w.Erase)) {
		steps = append(steps, &store.Write{
			Log: w.Log, After: w.After + pim.Seq(len(w.Records)), Fence: w.Fence, Erase: slices.Clone(w.Erase[i : i+1]),
		})
	}
	var cells []store.CellWrite
	for _, i := range rng.Perm(len(w.Cells)) {
		cells = append(cells, w.Cells[i])
	}
	for some := range slices.Chunk(cells, 1+len(cells)/mostCellSteps) {
		steps = append(steps, &store.Write{Cells: some})
	}
	if w.Raise {
		steps = append(steps, &store.Write{Log: w.Log, Raise: true})
	}
	if w.Trim != 0 {
		steps = append(steps, &store.Write{Log: w.Log, Trim: w.Trim})
	}
	lost := -1 // the step before which the answer is lost; len(steps): after the last one; -1: it is not lost
	if rng.Float64() < l.failRate() {
		lost = rng.IntN(len(steps) + 1)
	}
	for i, step := range steps {
		if i == lost {
			if rng.IntN(2) == 0 {
				l.keep(steps[i:], d)
			}
			return errLost
		}
		err := store.Commit(ctx, l.Store, []*store.Write{step}, d)
		if err == nil {
			err = step.Err
		}
		if err != nil {
			return l.midway(i, l.forgotten(ctx, rng, step, err))
		}
		runtime.Gosched()
	}
	if lost == len(steps) {
		return errLost
	}
	return nil
}

// forgotten returns the outcome of a step that failed with err. If that is a conflict, and the front is beyond the
// seqs of the step's append, the store may not know any more whose records it has trimmed.
func (l *Loosened) forgotten(ctx context.Context, rng *rand.Rand, step *store.Write, err error) error {
	var conflict *store.ConflictError
	if len(step.Records) == 0 || !errors.As(err, &conflict) {
		return err
	}
	reads := []store.Read{{Log: step.Log, WithLast: true}}
	failed := l.Store.Read(ctx, reads)
	front := reads[0].Front
	if failed != nil || front <= step.After || front-step.After <= pim.Seq(len(step.Records)) || rng.IntN(2) == 0 {
		return err
	}
	return errForgotten
}

// midway returns the outcome of a write whose i-th step failed with err.
func (l *Loosened) midway(i int, err error) error {
	if i == 0 || errors.Is(err, store.ErrUnknown) {
		return err
	}
	return &pim.Error{Op: "commit", Kind: pim.KindUnavailable, Text: err.Error(), Err: errors.Join(store.ErrUnknown, err)}
}

// keep keeps steps for later. Their data is the caller's again soon.
func (l *Loosened) keep(steps []*store.Write, d store.Durability) {
	const most = 64
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.late) == most {
		return
	}
	late := &lateWrite{durability: d}
	for _, step := range steps {
		own := *step
		own.Records, own.Erase, own.Cells = slices.Clone(step.Records), slices.Clone(step.Erase), slices.Clone(step.Cells)
		for i := range own.Records {
			own.Records[i] = bytes.Clone(own.Records[i])
		}
		for i := range own.Erase {
			own.Erase[i].Rest = bytes.Clone(own.Erase[i].Rest)
		}
		for i := range own.Cells {
			own.Cells[i].Value = bytes.Clone(own.Cells[i].Value)
		}
		late.steps = append(late.steps, &own)
	}
	l.late = append(l.late, late)
}

// catchUp is called before each call. Before one in four it carries out the next step of a
// late write, and gives up one write in eight.
func (l *Loosened) catchUp(ctx context.Context) {
	late := l.takeLate()
	if late == nil {
		return
	}
	step := late.steps[0]
	err := store.Commit(context.WithoutCancel(ctx), l.Store, []*store.Write{step}, late.durability)
	if err != nil || step.Err != nil || len(late.steps) == 1 {
		return
	}
	late.steps = late.steps[1:]
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.late = append(l.late, late)
	}
}

func (l *Loosened) takeLate() *lateWrite {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.late) == 0 || l.rng.IntN(4) > 0 {
		return nil
	}
	i := l.rng.IntN(len(l.late))
	late := l.late[i]
	l.late = slices.Delete(l.late, i, i+1)
	if l.rng.IntN(8) == 0 {
		return nil
	}
	return late
}

// Get implements store.Store.
func (l *Loosened) Get(ctx context.Context, gets []store.Get) error {
	l.catchUp(ctx)
	err := l.Store.Get(ctx, gets)
	for i := range gets {
		if g := &gets[i]; g.Err == nil && l.unanswered() {
			g.Cell, g.Err = store.Cell{}, errNoAnswer
		}
	}
	for i := range gets {
		if gets[i].Err != nil {
			return gets[i].Err
		}
	}
	return err
}

// Read implements store.Store. It cuts one read in four short.
func (l *Loosened) Read(ctx context.Context, reads []store.Read) error {
	l.catchUp(ctx)
	err := l.Store.Read(ctx, reads)
	for i := range reads {
		r := &reads[i]
		if r.Err == nil && l.unanswered() {
			r.First, r.Records, r.Last, r.Fence, r.Front, r.Err = 0, nil, 0, 0, 0, errNoAnswer
		}
		if len(r.Records) > 1 {
			r.Records = r.Records[:l.cut(len(r.Records))]
		}
	}
	for i := range reads {
		if reads[i].Err != nil {
			return reads[i].Err
		}
	}
	return err
}

// List implements store.Store.
func (l *Loosened) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	l.catchUp(ctx)
	return l.Store.List(ctx, p, after, limit)
}

// Close implements store.Store. Late writes that have not come never come.
func (l *Loosened) Close() error {
	l.abandon()
	return l.Store.Close()
}

// abandon waits for the calls of Begin that go on. What is late never comes.
func (l *Loosened) abandon() {
	l.mu.Lock()
	l.closed, l.late = true, nil
	l.mu.Unlock()
	l.running.Wait()
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

// unanswered reports whether a get or a read is to fail.
func (l *Loosened) unanswered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Float64() < l.rate/4
}

func (l *Loosened) failRate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}
