package imtest

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
)

// observer is a store that records in a History which cells are written and read, and
// whose power, or whose caller's, can be cut.
type observer struct {
	store.Store
	history *History

	mu     sync.RWMutex // decides whether a call is recorded before the cut, or fails after it
	dead   bool         // no call reaches the store any more
	killed bool         // dead, but the store lives on
}

var errNoPower = pim.Errorf(pim.KindUnavailable, "the machine has lost its power")

// cut ends the store's life: every call that has not returned yet fails. cut calls then
// once no call can be recorded any more.
func (o *observer) cut(then func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	then()
}

// kill ends the life of the store's caller: every call that has not returned yet fails. What such calls
// have written is recorded all the same, since other nodes see it.
func (o *observer) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead, o.killed = true, true
}

// gone returns an error once the power is gone.
func (o *observer) gone() error { return o.record(func() {}) }

// record calls f, unless the store's life has ended, and returns an error once its caller's has.
func (o *observer) record(f func()) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if !o.dead || o.killed {
		f()
	}
	if o.dead {
		return errNoPower
	}
	return nil
}

// Begin implements store.Store.
func (o *observer) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	if err := o.gone(); err != nil {
		for _, w := range writes {
			w.Err = err
			done(w)
		}
		return
	}
	o.Store.Begin(ctx, writes, d, func(w *store.Write) {
		lost := o.record(func() {
			for _, c := range w.Cells {
				if w.Err == nil && c.Version != 0 {
					o.history.Wrote(string(c.Partition), c.Key, c.Version, d == store.Durable)
				}
				if c.Forget { // also if its outcome is unknown
					o.history.Forgot(string(c.Partition), c.Key, c.Version)
				}
			}
		})
		if lost != nil {
			w.Err = lost
		}
		done(w)
	})
}

// Read implements store.Store.
func (o *observer) Read(ctx context.Context, reads []store.Read) error {
	err := o.Store.Read(ctx, reads)
	lost := o.gone()
	if lost == nil {
		return err
	}
	for i := range reads {
		r := &reads[i]
		r.First, r.Records, r.Last, r.Fence, r.Front, r.Err = 0, nil, 0, 0, 0, lost
	}
	return lost
}

// Get implements store.Store.
func (o *observer) Get(ctx context.Context, gets []store.Get) error {
	since := o.history.Now()
	err := o.Store.Get(ctx, gets)
	lost := o.record(func() {
		for i := range gets {
			if g := &gets[i]; g.Err == nil {
				o.history.Saw(since, string(g.Partition), g.Key, g.Cell.Version)
			}
		}
	})
	if lost == nil {
		return err
	}
	for i := range gets {
		gets[i].Cell, gets[i].Err = store.Cell{}, lost
	}
	return lost
}

// List implements store.Store.
func (o *observer) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	since := o.history.Now()
	cells, err := o.Store.List(ctx, p, after, limit)
	lost := o.record(func() {
		for _, c := range cells {
			o.history.Saw(since, string(p), c.Key, c.Version)
		}
	})
	if lost != nil {
		return nil, lost
	}
	return cells, err
}

// dropper withholds pushes at random.
type dropper struct {
	conv.Outlet
	history *History
	share   float64 // of the pushes

	mu  sync.Mutex
	rng *rand.Rand
}

// Deliver implements conv.Outlet.
func (d *dropper) Deliver(answers []conv.Answer, pushes []conv.Published) {
	kept := pushes[:0:0]
	d.mu.Lock()
	for _, p := range pushes {
		if d.rng.Float64() >= d.share {
			kept = append(kept, p)
			continue
		}
		for _, e := range p.Entries {
			d.history.Dropped(p.Conversation, e.Seq)
		}
	}
	d.mu.Unlock()
	d.Outlet.Deliver(answers, kept)
}
