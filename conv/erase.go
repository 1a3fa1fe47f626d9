package conv

import (
	"context"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// An erase (pim.EntryErase) erases what its sender has written in the conversation: records of
// the log, and the edits that its folds hold. These may be very many, so they are erased by
// effects of the entry (see effects.go): a few at a time, when the entry is durable and before it
// is answered and pushed. The machine writes nothing else meanwhile, since an erasure takes effect
// only on the log's last seq. An intent is written before the entry. If the process dies, whoever
// loads the log finds the entry behind the snapshot and erases again, and so does settle.
//
// How far a user's messages are erased is a cell, too, for devices that pass over the entry.

// erasing is an erasure that is carried out, or will be.
type erasing struct {
	pim.Erasure
	at    pim.Seq // of its entry
	next  pim.Seq // the records before it are done; with folds: the folds of the messages before it
	folds bool    // all records are done
}

// erasingOf returns the erasure that e, an erase, asks for.
func erasingOf(e *pim.Entry) erasing {
	x, _ := pim.ErasureOf(e)
	return erasing{Erasure: x, at: e.Seq, next: 1}
}

// allowErase returns why r, an erase by a user who may send, may not be appended, or nil.
func (c *conversation) allowErase(r *Request) error {
	if r.Refers > c.last {
		return pim.Errorf(pim.KindNotFound, "%s has no seq %d", c.id, r.Refers)
	}
	return nil
}

// eraseTarget does to t, which was read, what the erasures ask for of which the state does not know
// that they are carried out.
func (c *conversation) eraseTarget(t *target) {
	for _, x := range c.unerased {
		t.erased = t.erased || x.Covers(t.sender, t.fold.Target)
		x.unfold(&t.fold)
	}
}

// unfold takes the edit that x erases out of f, and reports whether there was one. No entry behind
// the erase brings another one, so the fold is newer than every one with the edit.
func (x *erasing) unfold(f *inbox.Fold) bool {
	if !x.Unfold(&f.Fold) {
		return false
	}
	f.Edits, f.Upto = nil, max(f.Upto, x.at)
	return true
}

const (
	eraseBytes = 4 << 20 // of records that are read at once for an erasure, about
	eraseFolds = 16      // folds that are read and written at once
)

// The rests of the records that are read at once fit into one write: an erased entry is shorter,
// or longer by the flag that says so.
const _ = uint(store.MaxAppendBytes - eraseBytes - pim.MaxFrame - 4*store.MaxBatch)

// erasure takes the next step of the erasures in pending, of the log of l: it reads some records or
// folds, and returns the write that erases what is to go of them, nil if nothing is. It takes those
// that are done out of pending.
func (l *live) erasure(ctx context.Context, s store.Store, pending *[]erasing) (w *store.Write, err error) {
	x, done := &(*pending)[0], false
	if x.folds {
		w, done, err = l.eraseFolds(ctx, s, x)
	} else {
		w, err = l.eraseRecords(ctx, s, x)
	}
	if done {
		*pending = (*pending)[1:]
	}
	return w, err
}

// eraseRecords returns the write that erases the next records for x, nil if there are none among
// those that it has read.
func (l *live) eraseRecords(ctx context.Context, s store.Store, x *erasing) (*store.Write, error) {
	reads := []store.Read{{
		Log: inbox.Entries(l.id), From: x.next, To: l.last, Limit: store.Limit{Records: store.MaxBatch, Bytes: eraseBytes},
	}}
	if err := s.Read(ctx, reads); err != nil {
		return nil, err
	}
	r := &reads[0]
	if r.First <= l.last && len(r.Records) == 0 {
		return nil, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d", l.id, r.First)
	}
	w := &store.Write{Log: inbox.Entries(l.id), After: l.last, Fence: l.fence}
	for _, data := range r.Records {
		e, err := wire.ParseEntry(l.id, data)
		if err != nil {
			return nil, err
		}
		if x.Erases(&e) {
			e.Payload, e.Erased = nil, true
			w.Erase = append(w.Erase, store.Erasure{Seq: e.Seq, Rest: wire.AppendEntry(nil, &e)})
		}
	}
	if x.next = r.First + pim.Seq(len(r.Records)); x.next > l.last {
		x.next, x.folds = 1, true
	}
	if len(w.Erase) == 0 {
		return nil, nil
	}
	return w, nil
}

// eraseFolds returns the write of the next folds without the edits that x erases, nil if there
// are none among those that it has read. done reports whether x is carried out.
func (l *live) eraseFolds(ctx context.Context, s store.Store, x *erasing) (w *store.Write, done bool, err error) {
	w = new(store.Write)
	add := func(f *inbox.Fold) {
		if x.unfold(f) {
			t := target{fold: *f, erased: true}
			w.Cells = append(w.Cells, t.cell(l.id))
		}
	}
	if x.next == 1 { // the state may know what the cells lack
		for _, seq := range slices.Sorted(maps.Keys(l.targets)) {
			f := l.targets[seq].fold
			add(&f)
		}
	}
	cells, err := s.List(ctx, inbox.Folds(l.id), inbox.FoldKey(x.next-1), eraseFolds)
	if err != nil {
		return nil, false, err
	}
	for _, cell := range cells {
		f, err := inbox.ParseFold(cell)
		if err != nil {
			return nil, false, err
		}
		if x.next = f.Target + 1; l.targets[f.Target] == nil {
			add(&f)
		}
	}
	done = len(cells) == 0 || x.next > x.UpTo
	if len(w.Cells) == 0 {
		return nil, done, nil
	}
	return w, done, nil
}

// effectsOf looks up the next effects of b, whose append has taken effect.
func (w *Writers) effectsOf(ctx context.Context, b *batch) ([]*store.Write, error) {
	next, err := b.conv.erasure(ctx, w.store, &b.erases)
	if next == nil {
		return nil, err
	}
	return []*store.Write{next}, err
}

// settleErasures erases again what the erases behind the snapshot of l ask for.
func (w *Writers) settleErasures(ctx context.Context, l *live) error {
	pending := slices.Clone(l.unerased)
	for len(pending) > 0 {
		next, err := l.erasure(ctx, w.store, &pending)
		if err != nil {
			return err
		}
		if next == nil {
			continue
		}
		if err := store.Commit(ctx, w.store, []*store.Write{next}, store.Durable); err != nil {
			return err
		}
		if next.Err != nil { // the log has gone on: another writer has loaded it, and erases
			return errOvertaken
		}
	}
	return nil
}
