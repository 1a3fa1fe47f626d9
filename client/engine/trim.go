package engine

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// Retention removes the oldest entries of a conversation from the server, and from every device:
// the server tells from which seq on the log still has entries, its front: in answers to pulls, with
// the conversations that the sync list names, and in a list of fronts that this device has not
// acknowledged (toldFronts). A device drops what it has before the front. Nothing there is missing any more: holes below it are closed, and a
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

// frontsAtOnce is how many fronts the server tells at once, at most. After so many there may be more.
const frontsAtOnce = 100

// toldFronts takes what the first page of the sync list tells of fronts: those that this device has
// not acknowledged. A front is acknowledged in the Output whose Batch has the Trim, so not before it is
// stored. The server tells a front again until then.
func (e *Engine) toldFronts(fronts []*wirepb.Front) {
	for _, f := range fronts[:min(len(fronts), frontsAtOnce)] {
		id := pim.ConversationID(f.Conversation)
		if id.Validate() != nil {
			continue // so that no name is longer than an ID
		}
		c := e.conversations.byID[id] // nil: the device has nothing of it
		if c != nil && c.doubt != nil {
			// What is known of c, and so how far it may be cut, is not certain yet. The next sync
			// tells the front again.
			e.doubts.front = true
			continue
		}
		if c != nil {
			e.trimmed(c, pim.Seq(f.Front), c.newest)
		}
		e.acks.front(f)
	}
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
