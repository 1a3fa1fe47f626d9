package conv

import (
	"context"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// trimStep is how many entries one write trims, at most: the store's other writes wait for it.
const trimStep = 1024

// Trim removes the entries of c up to the seq upTo from its log, for good: all that there are, if
// there are fewer. Nothing that follows from them is lost, except the client message IDs that the
// state does not remember. So entries younger than pim.DedupWindow must stay. A user's own log
// can't be trimmed, because devices learn settings from it.
//
// What the cells hold of the entries goes after them, see inbox.ForgetTrimmed. Then the members'
// devices are told of the front, see inbox.TellFronts. If the process dies before that is done, some
// process does it later.
//
// A trim is safe beside the conversation's writers, wherever they are. It passes no entry before
// the cells that follow from it are durable, and a snapshot of a later state. It goes in steps,
// each a write of its own. If Trim fails or is interrupted, some steps may be done; call it again.
func (w *Writers) Trim(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if _, own := c.OwnUser(); own {
		return pim.Errorf(pim.KindInvalid, "a user's own log is not trimmed: it holds the user's settings")
	}
	for range loadTries {
		if err := w.trim(ctx, c, upTo); err != errOvertaken {
			return err
		}
	}
	return errOvertaken
}

// trim is one try of Trim. It returns errOvertaken if another writer has written meanwhile.
func (w *Writers) trim(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error {
	l, err := w.load(ctx, c)
	if err != nil {
		return err
	}
	if upTo = min(upTo, l.last); upTo < l.front {
		return nil
	}
	if l.mixed {
		return errOvertaken
	}
	if err := w.settleErasures(ctx, l); err != nil { // the snapshot will be behind their entries
		return err
	}
	if err := w.writeAgain(ctx, l); err != nil {
		return err
	}
	cells, err := l.placesCells(ctx, w.store, upTo)
	if err != nil {
		return err
	}
	cells = append(cells, l.snapshotCell())
	number := w.announcer.last.Add(1)
	var intent store.CellWrite
	for to := l.front - 1; to < upTo; cells = nil {
		to = min(to+trimStep, upTo)
		intent = w.announcer.trimIntent(c, number) // anew, since settleOld may have settled the one before
		step := []*store.Write{{Log: inbox.Entries(c), Trim: to, Cells: append(cells, intent)}}
		if err := store.Commit(ctx, w.store, step, store.Durable); err != nil {
			return err
		}
	}
	return w.settleTrim(ctx, intent.Partition, intent.Cell)
}

// settleTrim does what follows from the trim of a log, and forgets the intent c of partition p.
func (w *Writers) settleTrim(ctx context.Context, p store.Partition, c store.Cell) error {
	_, id, _ := strings.Cut(c.Key, "/")
	log := pim.ConversationID(id)
	end := []store.Read{{Log: inbox.Entries(log), WithLast: true}}
	if err := w.store.Read(ctx, end); err != nil {
		return err
	}
	if err := inbox.ForgetTrimmed(ctx, w.store, log, end[0].Front); err != nil {
		return err
	}
	if end[0].Front > 1 { // else the trim has not taken effect
		if err := inbox.TellFronts(ctx, w.store, log, end[0].Front); err != nil {
			return err
		}
	}
	return store.Commit(ctx, w.store, []*store.Write{forgotten(p, c)}, store.Relaxed)
}

// writeAgain writes the cells that follow from the entries behind the snapshot of l, which was
// loaded, and adds the log to the index of logs if it may be missing there. Then nothing depends on these entries any more.
func (w *Writers) writeAgain(ctx context.Context, l *live) error {
	if !l.stale && !l.unlisted {
		return nil
	}
	b := &batch{conv: l, rewrites: true}
	b.finish()
	if err := store.Commit(ctx, w.store, []*store.Write{&b.write}, store.Durable); err != nil {
		return err
	}
	if b.write.Err != nil { // a conflict: another writer has written
		return errOvertaken
	}
	l.settled(b)
	return nil
}
