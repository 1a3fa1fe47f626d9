package engine

import (
	"slices"

	"github.com/pim-im/pim"
)

// Retention removes the oldest entries of a conversation from the server, and from every device:
// the server tells from which seq on the log still has entries, its front. A device drops what it
// has before the front. Nothing there is missing any more: holes below it are closed, and a
// message of the user that is kept aside until its entry comes (keepUnseen) is not sent again.

// trimmed takes note that c has no entries before the seq front. newest is the newest seq that the
// user may read.
func (e *Engine) trimmed(c *conversation, front, newest pim.Seq) {
	if front = min(front, newest+1); front <= max(c.front, 1) || e.cfg.Watch || c.doubt != nil || c.isOwn() {
		return
	}
	former := front
	if c.lost != 0 {
		former = min(front, c.lost)
	}
	c.front = front
	c.unseen = slices.DeleteFunc(c.unseen, func(seq pim.Seq) bool { return seq < former })
	e.setHoles(c, c.holes.without(1, front-1))
	e.conversations.trimAhead(c, front)
	if c.last != nil && c.last.Seq < front {
		c.last, c.lastCut = nil, false
	}
	if c.stale < front {
		e.conversations.setStale(c, 0)
	}
	e.out.Store.Trims = append(e.out.Store.Trims, Trim{Conversation: c.id, Front: front, Former: former})
	e.touch(c)
	e.emit(TrimmedEvent{Conversation: c.id, Front: front})
}

// frontBack takes back the front of c, which goes back to the seq to: the entries that come now
// may be others.
func (e *Engine) frontBack(c *conversation, to pim.Seq) {
	c.front = min(c.front, to+1)
	for i := range e.out.Store.Trims {
		if t := &e.out.Store.Trims[i]; t.Conversation == c.id {
			t.Front, t.Former = min(t.Front, to+1), min(t.Former, to+1)
		}
	}
}

// mayBeLost notes that the server may have lost the entries of c from the seq from on.
func (e *Engine) mayBeLost(c *conversation, from pim.Seq) {
	if c.lost == 0 || from < c.lost {
		c.lost = from
		e.touch(c)
	}
}

// Front returns the first seq of c that retention has left, as far as this device has heard; 0 if
// nothing was removed.
func (e *Engine) Front(id pim.ConversationID) pim.Seq {
	if c := e.conversations.byID[id]; c != nil {
		return c.front
	}
	return 0
}
