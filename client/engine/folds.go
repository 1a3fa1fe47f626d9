package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// Edits, recalls, reactions and pins are entries that refer to a message. What they make of
// it is its fold (pim.Fold). The store has it: the engine says what is to be merged into it,
// as entries and the folds of pages come, in any order. So the fold of an old message is
// right as soon as its page has come, whatever lies in the holes above it.
//
// What this device has sent and the server has not answered is not merged: it is in the
// outbox, and the app shows it as if it were the last.

// folded merges what entry, which is stored in the same batch, makes of the message that it
// refers to. The payload of an erased edit is gone, and the recall that erased it follows.
func (e *Engine) folded(c *conversation, entry *pim.Entry) {
	if f, ok := pim.FoldOf(entry); ok && !(entry.Erased && entry.Kind == pim.EntryEdit) {
		e.merge(c, []pim.Fold{f})
	}
}

// merge stores folds of messages of c, and tells the app.
//
// An edit may have outlived its message, which was trimmed. Then only a recall matters, since it
// takes the edit's payload. A fold must not stay: it would until the next trim.
func (e *Engine) merge(c *conversation, folds []pim.Fold) {
	for i := range folds {
		f := &folds[i]
		gone := f.Target < c.front
		if gone && !f.Recalled() {
			continue
		}
		c.erasure(f.Edit.By).Unfold(f)
		e.out.Store.Folds = append(e.out.Store.Folds, Fold{c.id, *f})
		if gone {
			e.out.Store.Trims = append(e.out.Store.Trims, Trim{Conversation: c.id, Front: f.Target + 1})
			continue
		}
		if newest := f.Newest(); newest > c.folded {
			c.folded = newest
			e.touch(c)
		}
		e.emit(ChangedEvent{Conversation: c.id, Seq: f.Target})
	}
}

// refolded takes one frame of a page of folds, which were merged, and reports whether it goes on
// with what is stale.
func (e *Engine) refolded(c *conversation, from, to pim.Seq) bool {
	if from > to || from > c.fresh+1 || to <= c.fresh {
		return false
	}
	if c.fresh = to; c.fresh >= c.stale {
		e.conversations.setStale(c, 0)
		e.touch(c)
	}
	return true
}

// foldsBack takes back the folds of c to the seq to, with its entries. A fold that had anything
// above it has left the store, with what it had of below.
func (e *Engine) foldsBack(c *conversation, to pim.Seq) {
	stale := min(c.stale, to)
	if c.folded > to {
		c.folded, stale = to, to
	}
	e.conversations.setStale(c, stale)
}

// doubtFolds takes back what pages told of entries above c's position: the comparison of the
// entries says nothing of them, and the server may have lost them.
func (e *Engine) doubtFolds(c *conversation) {
	if c.folded <= c.known {
		return
	}
	e.out.Store.Rewinds = append(e.out.Store.Rewinds, Rewind{Conversation: c.id, After: c.known, Sender: e.meta.User})
	e.foldsBack(c, c.known)
	e.touch(c)
	e.emit(RewoundEvent{Conversation: c.id, After: c.known})
}

// referredBack gives up what is in the outbox and refers to an entry of c above the seq to. The
// entry is gone; when it comes back it has another seq. An erase is of what is left.
func (o *outbox) referredBack(c *conversation, to pim.Seq) {
	var gone []*message
	for _, m := range o.byID {
		if m.Conversation == c.id && m.Refers > to {
			gone = append(gone, m)
		}
	}
	slices.SortFunc(gone, func(a, b *message) int { return cmp.Compare(a.Number, b.Number) })
	for _, m := range gone {
		if m.Kind == pim.EntryErase && to > 0 {
			m.Refers, m.cut = to, true
			o.fx.store(m)
			continue
		}
		err := pim.Errorf(pim.KindNotFound, "the server has lost the message at seq %d", m.Refers)
		o.leave(m, SendEvent{State: Failed, Err: err})
	}
}

func foldsOf(c pim.ConversationID, m *wirepb.PIMPullResp) ([]pim.Fold, error) {
	if len(m.Folds) == 0 {
		return nil, nil
	}
	folds, least := make([]pim.Fold, 0, len(m.Folds)), m.From
	for _, w := range m.Folds {
		if w.Target < least || w.Target > m.To {
			return nil, pim.Errorf(pim.KindInvalid, "pull of %s: a fold of seq %d is not in %d..%d, or not in order", c, w.Target, least, m.To)
		}
		least = w.Target + 1
		f, err := wire.FoldOf(w)
		if err != nil {
			return nil, err
		}
		folds = append(folds, f)
	}
	return folds, nil
}

// checkReferring says what is wrong with a message that refers to another one, or does not
// though its kind has to; nil if nothing is.
func checkReferring(out *Outgoing) error {
	refers := out.Kind >= pim.EntryEdit && out.Kind <= pim.EntryPin || out.Kind == pim.EntryErase
	switch {
	case refers && out.Refers == 0:
		return pim.Errorf(pim.KindInvalid, "no message has the seq 0")
	case !refers && out.Refers != 0:
		return pim.Errorf(pim.KindInvalid, "a %s refers to no message", out.Kind)
	case out.Kind == pim.EntryReaction:
		return pim.ValidateReaction(out.Reaction)
	}
	return nil
}
