package engine

import (
	"slices"

	"github.com/pim-im/pim"
)

// A long gap is not read upwards: a person wants the newest page. So the position
// jumps to that page, and the gap becomes a hole. A hole is filled by itself, from its
// top; a very long one is lazy, and is filled only when somebody scrolls there. Hole
// and position are stored with the entries of the page, in one transaction.
//
// The user's own log has no holes: commands are obeyed in their order.

const (
	pageSize = 100    // entries of a pull, and of the longest gap that is read upwards
	lazyGap  = 10_000 // entries of the longest hole that is filled by itself
	maxHoles = 15     // of a conversation; then gaps are read upwards again
)

// setHoles changes c's holes, and answers the Fills for which nothing is missing any more. A hole
// also goes without a page: with what the server has lost, or what retention has removed.
func (e *Engine) setHoles(c *conversation, hs holes) {
	e.conversations.setHoles(c, hs)
	e.touch(c)
	e.acks.later(c)
	e.settleFills(c)
}

// settleFills answers the Fills of c, in their order, until one has something to fill. It is called
// whenever holes or Fills change, so the next Fill of c always has something: a pull for one that
// has not would be repeated without end.
func (e *Engine) settleFills(c *conversation) {
	e.out.Filled = append(e.out.Filled, e.fills.settle(c)...)
}

// jumpTo moves c's position over a gap to next-1; the gap becomes a hole. What this user
// has just sent is not left in it.
func (e *Engine) jumpTo(c *conversation, next pim.Seq) {
	h := Hole{From: c.known + 1, To: next - 1}
	h.Lazy = h.To-h.From+1 > pim.Seq(e.cfg.LazyGap) && !e.cfg.Confirms
	if h.Lazy && h.From > 1 { // what it tells of the messages below must not wait for somebody to scroll there
		e.conversations.setStale(c, max(c.stale, h.From-1))
	}
	c.known = h.To
	hs := c.holes.with(h)
	for _, seq := range c.unseen {
		if hs.miss(seq, seq) {
			hs = hs.open(seq)
		}
	}
	e.setHoles(c, hs)
}

// jumps reports whether a gap up to the seq to is jumped, because it is longer than a page.
func (c *conversation) jumps(to, page pim.Seq) bool {
	return !c.isOwn() && !c.whole && to != unknownSeq && to-c.known > page && len(c.holes) < maxHoles
}

// fillHole takes one frame of a page from a hole, and reports whether it fills
// anything.
func (e *Engine) fillHole(c *conversation, entries []pim.Entry, from, to pim.Seq) bool {
	for i := range entries {
		if entry := &entries[i]; c.holes.miss(entry.Seq, entry.Seq) {
			c.strip(entry)
			if entry.Sender == e.meta.User {
				e.outbox.found(entry)
				e.cameBack(c, entry)
			}
			e.readBy(c, entry)
			e.hand(*entry, true)
			e.folded(c, entry)
			if x, ok := pim.ErasureOf(entry); ok {
				e.erase(c, x)
			}
		}
	}
	rest := c.holes.without(from, to)
	if from > to || slices.Equal(rest, c.holes) {
		return false
	}
	e.setHoles(c, rest)
	return true
}

// fill takes Fill: the app wants older entries.
func (e *Engine) fill(in Fill) error {
	c := e.conversations.byID[in.Conversation]
	switch {
	case e.link.phase == stopped:
		return e.link.stopErr
	case e.cfg.Watch:
		return pim.Errorf(pim.KindInvalid, "with Options.Watch there are no holes to fill")
	case len(e.fills) >= maxWaiting:
		return pim.Errorf(pim.KindOverloaded, "%d requests for older entries wait for an answer", len(e.fills))
	}
	if c == nil {
		e.out.Filled = append(e.out.Filled, Filled{ID: in.ID})
		return nil
	}
	e.fills = append(e.fills, &fill{in, c})
	e.settleFills(c)
	if e.fills.next(c) == nil {
		return nil
	}
	e.pulls.move(c, rankOpened)
	e.wantPull(c)
	return nil
}

// openConversation takes Open: which conversation a person looks at.
func (e *Engine) openConversation(id pim.ConversationID) {
	e.opened = id
	if c := e.conversations.byID[id]; c != nil && c.pulling {
		e.pulls.move(c, e.rank(c))
	}
}
