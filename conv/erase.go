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
// How far a user's messages are erased is a cell. It is for devices that pass over the entry, and
// it says where the user's next erase begins: nothing refers to an erased message, so nothing comes
// later that an erase of these messages would have to find. So all erases of a user together read
// each record once. An erase that would erase nothing is refused. Else it could be sent for ever,
// and each would be an entry for everybody.

// erasing is an erasure that is carried out, or will be.
type erasing struct {
	pim.Erasure
	at    pim.Seq // of its entry
	from  pim.Seq // of what is before it, nothing is to be erased
	next  pim.Seq // the records before it are done; with folds: the folds of the messages before it
	folds bool    // all records are done
}

// erasingOf returns the erasure that e, an erase, asks for, of messages from the seq from on.
func erasingOf(e *pim.Entry, from pim.Seq) erasing {
	x, _ := pim.ErasureOf(e)
	return erasing{Erasure: x, at: e.Seq, from: from, next: from}
}

// allowErase returns why r, an erase, may not be appended, or nil. It does not know whether r would
// erase anything. A user who has left a group may still erase what they wrote there.
func (c *conversation) allowErase(r *Request) error {
	newest := c.last
	if c.id.IsGroup() {
		m := c.members[r.Sender]
		if m == nil {
			return notMember(r.Sender, c.id)
		}
		newest = m.LastUpTo(c.last)
	}
	if r.Refers > newest {
		return pim.Errorf(pim.KindNotFound, "%s has no seq %d that user %s may read", c.id, r.Refers, r.Sender)
	}
	return nil
}

// hidesErase reports whether e is an erase that stands where its sender, who had left, may not read.
func (c *conversation) hidesErase(e *pim.Entry) bool {
	if e.Kind != pim.EntryErase || !c.id.IsGroup() {
		return false
	}
	m := c.members[e.Sender]
	return m != nil && !m.Reads(e.Seq)
}

// nothingToErase is the error of r, an erase that would erase nothing.
func nothingToErase(r *Request) error {
	return pim.Errorf(pim.KindNotFound, "nothing is left to erase of what user %s wrote in %s up to seq %d", r.Sender, r.Conversation, r.Refers)
}

// needsErased reports whether the first entry that r erases must be looked up before r is stepped.
func (l *live) needsErased(r *Request) bool {
	if r.Kind != pim.EntryErase {
		return false
	}
	_, err := l.allow(r)
	return err == nil
}

// Of a long log it may take seconds to find the first entry that an erase erases. So no conversation
// waits for that: the request is taken out of those that wait, and others go on meanwhile. What was
// found may be gone by then, if the message was recalled or trimmed. Nothing can have come: nobody
// writes at a seq that is there, and erased and trimmed records stay so. So the search says only where
// the next look-up for the request begins, and that one, for which the conversation waits, reads a few
// records. If the entry is not among them any more, the search goes on from there.

// eraseAhead is how many records a look-up for an erase reads while the conversation waits.
const (
	eraseAhead      = 64
	eraseAheadBytes = 256 << 10
)

// lookUpErased returns the seq of the first entry that r, an erase, erases, 0 if there is none. If
// there is none, the cell says so from now on: the next erase does not look there again. search says
// that the entry is to be searched first.
//
// The store may still have what an erase behind the snapshot erases: its writer may be carrying it out,
// or may have died. It counts as erased, since the intent sees to it that it will be. A recall has no
// intent. So what it has left in the store is there, and r, if it is accepted, erases it.
func (l *live) lookUpErased(ctx context.Context, s store.Store, r *Request) (first pim.Seq, search bool, err error) {
	x := erasing{Erasure: pim.Erasure{By: r.Sender, UpTo: r.Refers}}
	cell, _, err := store.Lookup(ctx, s, inbox.Erasures(r.Conversation), string(x.By))
	if err != nil {
		return 0, false, err
	}
	upTo := pim.Seq(cell.Version)
	for i := range l.unerased {
		if before := &l.unerased[i]; before.By == x.By {
			upTo = max(upTo, before.UpTo)
		}
	}
	if upTo >= x.UpTo {
		return 0, false, nil
	}
	if x.next = max(r.searched, upTo+1); x.next <= x.UpTo {
		found, err := readErased(ctx, s, r.Conversation, &x, store.Limit{Records: eraseAhead, Bytes: eraseAheadBytes})
		if err != nil {
			return 0, false, err
		}
		for i := range found {
			gone, err := l.gone(&found[i])
			if err != nil {
				return 0, false, err
			}
			if !gone {
				return found[i].Seq, false, nil
			}
			r.passed = true
		}
		if x.next <= x.UpTo {
			r.searched = x.next
			return 0, true, nil
		}
	}
	return 0, false, noteErased(ctx, s, r)
}

// gone reports whether found is of an edit that an erase behind the snapshot erases because it erases
// the message. The fold of a trimmed message has gone, and only an erase that reads its edits erases them.
func (l *live) gone(found *store.Erasure) (bool, error) {
	if len(l.unerased) == 0 {
		return false, nil
	}
	e, err := wire.ParseEntry(l.id, found.Rest)
	if err != nil {
		return false, err
	}
	return e.Kind == pim.EntryEdit && e.Refers >= l.front && slices.ContainsFunc(l.unerased, func(x erasing) bool {
		return x.Covers(e.Sender, e.Refers)
	}), nil
}

// noteErased stores that nothing is left of what r, an erase, would erase. It stores nothing if r has
// passed over edits that are not erased yet: their messages may be trimmed first, and then only an erase
// that reads the edits erases them.
func noteErased(ctx context.Context, s store.Store, r *Request) error {
	if r.passed {
		return nil
	}
	x := pim.Erasure{By: r.Sender, UpTo: r.Refers}
	looked := &store.Write{Cells: []store.CellWrite{inbox.ErasureCell(r.Conversation, x)}}
	return store.Commit(ctx, s, []*store.Write{looked}, store.Relaxed)
}

// searchErased moves r.searched up to the first entry that r, an erase, erases, or behind all that it
// could erase.
//
// It goes on where the user's other erases have got to meanwhile: those that wait behind each other
// read each record once together.
func searchErased(ctx context.Context, s store.Store, r *Request) error {
	x := erasing{Erasure: pim.Erasure{By: r.Sender, UpTo: r.Refers}, next: r.searched}
	for {
		cell, _, err := store.Lookup(ctx, s, inbox.Erasures(r.Conversation), string(x.By))
		if err != nil {
			return err
		}
		if x.next = max(x.next, pim.Seq(cell.Version)+1); x.next > x.UpTo {
			r.searched = x.next
			return nil
		}
		found, err := readErased(ctx, s, r.Conversation, &x, eraseStep)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			r.searched = found[0].Seq
			return nil
		}
		if r.searched = x.next; x.next > x.UpTo {
			return noteErased(ctx, s, r)
		}
	}
}

// eraseTarget does to t, which was read, what the erasures ask for of which the state does not know
// that they are carried out. It returns the erasures of the edits that the fold of t names no more.
func (l *live) eraseTarget(ctx context.Context, s store.Store, t *target) (erasures []store.Erasure, err error) {
	for i := range l.unerased {
		x := &l.unerased[i]
		t.erased = t.erased || x.Covers(t.sender, t.fold.Target)
		if edits := t.fold.Edits; x.unfold(&t.fold) {
			if erasures, err = readErasures(ctx, s, l.id, edits); err != nil {
				return nil, err
			}
		}
	}
	return erasures, nil
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
	eraseFolds = 16      // folds that are read and written at once, at most
	eraseEdits = 64      // the records of so many edits are read at once, and of up to maxEdits more
)

// eraseStep is what is read at once for an erasure.
var eraseStep = store.Limit{Records: store.MaxBatch, Bytes: eraseBytes}

// The rests of the records that are read at once fit into one write: an erased entry is shorter,
// or longer by the flag that says so.
const _ = uint(store.MaxAppendBytes - eraseBytes - pim.MaxFrame - 4*store.MaxBatch)

// erasure takes the next step of the erasures in pending, of the log of l: it reads some records or
// folds, and returns the write that erases what is to go of them, nil if nothing is. It takes those
// that are done out of pending.
func (l *live) erasure(ctx context.Context, s store.Store, pending *[]erasing) (w *store.Write, err error) {
	x, done := &(*pending)[0], false
	w = new(store.Write)
	if x.folds {
		done, err = l.eraseFolds(ctx, s, x, w)
	} else {
		w.Erase, err = readErased(ctx, s, l.id, x, eraseStep)
		if x.next > x.UpTo {
			x.next, x.folds = x.from, true
		}
	}
	if done {
		*pending = (*pending)[1:]
	}
	if err != nil || len(w.Erase)+len(w.Cells) == 0 {
		return nil, err
	}
	if len(w.Erase) > 0 {
		w.Log, w.After, w.Fence = inbox.Entries(l.id), l.last, l.fence
	}
	return w, nil
}

// readErased reads the next records of the log of id up to x.UpTo, as many as limit says, and returns
// the erasures of those that x erases.
func readErased(ctx context.Context, s store.Store, id pim.ConversationID, x *erasing, limit store.Limit) (erasures []store.Erasure, err error) {
	reads := []store.Read{{Log: inbox.Entries(id), From: x.next, To: x.UpTo, Limit: limit}}
	if err := s.Read(ctx, reads); err != nil {
		return nil, err
	}
	r := &reads[0]
	if r.First <= x.UpTo && len(r.Records) == 0 {
		return nil, pim.Errorf(pim.KindCorrupt, "log of %s ends before seq %d", id, r.First)
	}
	for _, data := range r.Records {
		e, err := wire.ParseEntry(id, data)
		if err != nil {
			return nil, err
		}
		if x.Erases(&e) {
			e.Payload, e.Erased = nil, true
			erasures = append(erasures, store.Erasure{Seq: e.Seq, Rest: wire.AppendEntry(nil, &e)})
		}
	}
	x.next = r.First + pim.Seq(len(r.Records))
	return erasures, nil
}

// eraseFolds adds to w the next folds without the edits that x erases, and the erasures of the
// records of these edits. done reports whether x is carried out.
func (l *live) eraseFolds(ctx context.Context, s store.Store, x *erasing, w *store.Write) (done bool, err error) {
	cells, err := s.List(ctx, inbox.Folds(l.id), inbox.FoldKey(x.next-1), eraseFolds)
	if err != nil {
		return false, err
	}
	folds := make(map[pim.Seq]inbox.Fold, len(cells)+len(l.targets))
	for _, cell := range cells {
		f, err := inbox.ParseFold(cell)
		if err != nil {
			return false, err
		}
		folds[f.Target] = f
	}
	for seq, t := range l.targets { // the state may know what the cells lack
		if seq >= x.next {
			folds[seq] = t.fold
		}
	}
	for i, seq := range slices.Sorted(maps.Keys(folds)) {
		if seq > x.UpTo {
			return true, nil
		}
		if i == eraseFolds || len(w.Erase) >= eraseEdits {
			return false, nil
		}
		x.next = seq + 1
		f := folds[seq]
		edits := f.Edits
		if !x.unfold(&f) {
			continue
		}
		erasures, err := readErasures(ctx, s, l.id, edits)
		if err != nil {
			return false, err
		}
		t := target{fold: f, erased: true}
		w.Cells, w.Erase = append(w.Cells, t.cell(l.id)), append(w.Erase, erasures...)
	}
	return len(cells) < eraseFolds, nil
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
