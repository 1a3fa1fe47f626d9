package engine

import (
	"maps"
	"slices"

	"github.com/pim-im/pim"
)

// The server's store may go back: it is restored from a backup, begun anew, or another
// store is behind the same name. Then seqs are used a second time, and what a device
// knows of them does not hold. The signs are: Welcome names another store, or a lower
// acknowledgement serial than before; a conversation is shorter than it was; a message
// is answered at a seq where another entry is stored. A sign is not believed, since a
// server that was merely killed gives some of them. It is a doubt, which costs a pull
// and changes nothing by itself.
//
// A doubt about a conversation is settled by comparing the device's entries with the
// server's (check). Above the last common entry the conversation is taken back (rewind).
// Until then nothing of it is acknowledged, and pushed entries are not taken, but pulled
// afterwards. The user's own log is compared last, and taken back as a whole: pulls leave
// superseded commands out, so an entry in common does not prove that the device has the
// commands below it.

// resumeDoubts begins the comparisons anew on a new connection.
func (e *Engine) resumeDoubts() {
	e.doubts.opened()
	e.fetches.forget()
	for _, id := range slices.Sorted(maps.Keys(e.conversations.byID)) {
		c := e.conversations.byID[id]
		c.checked, c.reading = false, false
		switch {
		case c.doubt != nil:
			e.doubts.add(c, pim.Seq(e.pulls.most()))
		case e.meta.Doubt && c.followed && c.known == 0 && !c.isOwn():
			e.doubtFolds(c)
			e.dropAhead(c)
			e.unhear(c, 0)
			e.aim(c, unknownSeq)
		case e.meta.Doubt && c.followed:
			e.doubt(c)
		}
	}
	if e.doubts.count > 0 {
		e.doubtOwn()
	}
	e.believe()
}

// suspect takes a sign that the server has lost entries of c.
func (e *Engine) suspect(c *conversation) {
	if !e.meta.Doubt {
		e.meta.Doubt, e.metaDirty = true, true // stored: the process may die before the comparison ends
	}
	e.doubt(c)
	e.doubtOwn()
	e.believe()
}

// doubtOwn queues the user's own log for comparison.
func (e *Engine) doubtOwn() {
	if c := e.conversations.get(pim.Own(e.meta.User)); c != nil {
		e.doubt(c)
	}
}

// doubt queues c for comparison. A conversation of which nothing is known needs none.
// The own log always does: it waits for all others, because its read positions are seqs
// of theirs.
func (e *Engine) doubt(c *conversation) {
	if c.known == 0 && !c.isOwn() || c.doubt != nil {
		return
	}
	e.pulls.forget(c)
	e.dropAhead(c)
	e.conversations.setTarget(c, 0)
	e.acks.remove(c)
	e.doubts.add(c, pim.Seq(e.pulls.most()))
}

// isOwn reports whether c is the user's own log.
func (c *conversation) isOwn() bool {
	_, own := c.id.OwnUser()
	return own
}

// goOn does what the comparison of c needs next.
func (e *Engine) goOn(c *conversation, t task) {
	switch t {
	case readStored:
		e.fetches.ask(c, Read{UpTo: c.doubt.at, Limit: int(c.doubt.page)}, func(c *conversation, entries []pim.Entry) {
			if c.doubt != nil {
				e.goOn(c, c.doubt.read(entries))
			}
		})
	case askServer:
		e.wantPull(c)
	case decided:
		e.decide(c)
	}
}

// incomparable takes the server's refusal of a comparison.
func (e *Engine) incomparable(c *conversation, err *pim.Error) {
	if err.Kind == pim.KindNotMember || err.Kind == pim.KindNotFound { // the group is not there
		c.doubt.nothing()
	} else { // the next connection tries again
		c.doubt.putOff()
		e.doubts.unsure = true
	}
	e.decide(c)
}

// decide ends c's doubt.
func (e *Engine) decide(c *conversation) {
	d := c.doubt
	e.doubts.trust(c)
	c.checked, c.acked = true, 0 // what was acknowledged may be gone as well
	switch {
	case c.isOwn() && (d.lost || c.newest > c.known):
		// Pulls leave out what a later command has superseded. That later command may have
		// been above the position, and be gone now; then what was left out is in force again.
		e.rewind(c, 0, 0)
	case d.lost, d.newest < c.known:
		e.rewind(c, d.same.Seq, d.same.Count)
	case d.same.Seq == c.known && c.counted == c.known:
		e.unhear(c, c.count)
	case d.same.Seq == c.known:
		e.unhear(c, d.same.Count)
	}
	e.doubtFolds(c)
	e.trimmed(c, d.front, d.newest)
	if d.listed != nil {
		e.readUpTo(c)
		e.counts(c, standingOf(d.listed), max(d.newest, d.heard))
		e.readInList(c, false)
	}
	switch newest := max(d.newest, d.heard); {
	case e.cfg.Watch:
		e.aim(c, unknownSeq)
	case newest > c.known:
		c.newest = newest
		e.aim(c, newest)
		e.touch(c)
	case e.unlisted(c):
		e.aim(c, unknownSeq)
	case e.jobOf(c) != noJob:
		e.wantPull(c)
	}
	e.acks.later(c)
	e.believe()
}

// unlisted reports whether c is the user's own log, nothing of it is known, and the sync
// list may not name it: the server leaves out what this device has acknowledged.
func (e *Engine) unlisted(c *conversation) bool {
	return c.isOwn() && c.known == 0 && !e.cfg.Watch && !e.meta.FullSync
}

// unhear forgets what was heard of c above its position. count is the counting messages
// up to the position.
func (e *Engine) unhear(c *conversation, count uint64) {
	above := c.counted > c.known
	c.newest, c.counted, c.count, c.last, c.lastCut = c.known, c.known, count, nil, false
	e.fetches.seekOwn(c, above)
	e.touch(c)
}

// believe ends the doubt about the server's store, if no conversation is in doubt any
// more and all could be compared. Then the fronts are asked for that were passed over meanwhile.
func (e *Engine) believe() {
	if e.meta.Doubt && e.doubts.settled() {
		e.meta.Doubt, e.metaDirty = false, true
		if c := e.conversations.byID[pim.Own(e.meta.User)]; c == nil || !c.former {
			e.wishes.reads = make(map[string]pim.Command)
		}
		e.giveUpExpected()
	}
	if e.doubts.front && e.doubts.settled() {
		e.doubts.front = false
		e.startSync()
	}
}

// rewind takes c back to the seq to: what was known above it is gone from the server.
// count is the counting messages up to the seq to.
func (e *Engine) rewind(c *conversation, to pim.Seq, count uint64) {
	e.takeBack(c, to, count, e.meta.User)
	e.mayBeLost(c, to+1)
	e.keepFormer(c)
	if c.isOwn() {
		for _, c := range e.conversations.byID {
			c.readTo = min(e.readUpTo(c), c.known) // the log tells it again
		}
		e.wishes.forget(e.settings)
		clear(e.foretold)
	} else {
		e.unread(c, to, count)
		e.outbox.referredBack(c, to)
	}
}

// takeBack deletes the stored entries of c above the seq to, and keeps aside those that
// sender sent.
func (e *Engine) takeBack(c *conversation, to pim.Seq, count uint64, sender pim.UserID) {
	e.out.Store.Rewinds = append(e.out.Store.Rewinds, Rewind{Conversation: c.id, After: to, Sender: sender})
	c.known, c.newest, c.counted, c.count, c.acked = to, to, to, count, min(c.acked, to)
	c.readTo = min(c.readTo, to)
	e.readAgain(c, to)
	c.last, c.lastCut, c.left, c.recent, c.movedAt = nil, false, false, 0, e.now.Mono
	e.fetches.seekOwn(c, true)
	e.setHoles(c, soundHoles(c.holes.without(to, unknownSeq), to))
	e.frontBack(c, to)
	e.foldsBack(c, to)
	e.erasuresBack(c, to)
	e.emit(RewoundEvent{Conversation: c.id, After: to})
}

// unread gives up the read positions of c above the seq to: at once those that are in
// the outbox; and the one in force if the own log is taken back too (wishes.stillRead).
func (e *Engine) unread(c *conversation, to pim.Seq, count uint64) {
	cmd := pim.Command{Kind: pim.CommandRead, Subject: string(c.id), Seq: to, Count: count}
	e.wishes.cut(cmd)
	left := false
	for _, m := range slices.Clone(e.outbox.commands(pim.Own(e.meta.User), cmd.Entity())) {
		if m.command.Seq > to {
			e.outbox.leave(m, SendEvent{State: Superseded})
			left = true
		}
	}
	if left { // no command took its place, so nothing else tells the app
		e.showSetting(cmd.Entity())
	}
}
