package engine

import (
	"cmp"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// resumeSync starts reading the sync list on a new connection.
func (e *Engine) resumeSync() {
	e.sync.opened()
	e.acks.fronts = nil // they were told on another connection, and perhaps of another store; the server tells them again
	e.sync.listed = e.cfg.Watch
	e.startSync()
}

// startSync reads the sync list from its beginning, or pulls all that is watched.
func (e *Engine) startSync() {
	if !e.cfg.Watch {
		if e.sync.start() {
			e.askSync()
		}
		return
	}
	for _, c := range e.conversations.byID {
		if c.followed {
			e.aim(c, unknownSeq)
		}
	}
	e.pulls.sort()
}

// askSync asks for the next page of the sync list.
func (e *Engine) askSync() {
	e.acks.send(true) // the server lists what this device has not acknowledged
	e.sync.ask()
}

// synced takes a page of the sync list, or what comes ahead of the first one.
func (e *Engine) synced(m *wirepb.PIMSyncResp) {
	switch {
	case m.Recent && !e.sync.ahead(m.RequestId):
		return
	case !m.Recent && !e.sync.answered(m.RequestId):
		return
	}
	var changed []pim.ConversationID
	for _, s := range m.Conversations {
		if e.summarized(s) {
			changed = append(changed, pim.ConversationID(s.Conversation))
		}
	}
	e.pulls.sort()
	if len(changed) > 0 {
		e.emit(ListEvent{Conversations: changed})
	}
	if m.Recent {
		return
	}
	e.toldFronts(m.Fronts) // after the list: it says up to where a conversation goes
	e.sync.fronts(m.Fronts)
	if e.sync.page(m.NextAfter) {
		e.askSync()
	}
}

// summarized takes one line of the sync list and reports whether it says something new.
func (e *Engine) summarized(s *wirepb.Summary) (changed bool) {
	c := e.conversations.get(pim.ConversationID(s.Conversation))
	if c == nil {
		return false
	}
	newest := newestOf(s.Newest)
	switch {
	case c.doubt != nil:
		c.doubt.hear(newest)
		c.doubt.listed = s
		return false
	case newest < c.known && c.movedAt < e.sync.begunAt && !c.checked:
		e.suspect(c)
		return false
	}
	isNew := c.newest == 0
	e.readUpTo(c)
	e.foretell(s)
	e.readMoved(c, isNew) // a message in flight does not move it
	whole, ok := wholeOf(c.id, s)
	if ok && newest == c.known+1 {
		e.arrive(c, whole)
	} else if newest >= c.newest && (newest > c.known || c.left != s.Left) {
		changed = true
		e.touch(c)
		c.newest, c.counted, c.count, c.left = newest, newest, s.Count, s.Left
		if last := lastOf(c.id, s); last != nil && newest > c.known {
			c.last, c.lastCut, c.recent = last, s.LastCut, last.Time()
			c.strip(last)
			e.reads(c, last)
		}
	}
	changed = e.counts(c, standingOf(s), newest) || changed
	e.readInList(c, isNew)
	if newest > c.known {
		e.aim(c, newest)
		if ok {
			e.conversations.keepAhead(c, whole)
		}
	}
	e.trimmed(c, pim.Seq(s.Front), newest)
	if acked := pim.Seq(s.Acked); acked < min(c.ackable(), newest) {
		c.acked = acked
		e.acks.later(c)
	}
	return changed
}

// counts takes the server's word for where the user's newest message in c stands, and for what mentions
// the user, and reports whether it is new. newest is the newest seq of which the server has told.
func (e *Engine) counts(c *conversation, s *wirepb.Standing, newest pim.Seq) (changed bool) {
	if own := newestOf(s.Own); own > c.own && own <= newest {
		c.own, c.ownUpTo, c.ownAll = own, min(s.OwnCount, s.Count), min(s.OwnAll, s.AllCount)
		changed = true
		e.touch(c)
	}
	if s.Named > c.said.Named || s.AllCount > c.said.All {
		e.says(c, pim.Mentioned{Named: min(s.Named, s.Count), All: min(s.AllCount, s.Count)})
		changed = true
	}
	return changed
}

// standingOf returns what s says of counts.
func standingOf(s *wirepb.Summary) *wirepb.Standing {
	return &wirepb.Standing{
		Newest: s.Newest, Count: s.Count, Own: s.Own, OwnCount: s.OwnCount, Named: s.Named, OwnAll: s.OwnAll, AllCount: s.AllCount,
	}
}

// stands takes what a page says of the counts of c: entries that would have told it may be in the gap
// that the page jumps, or removed. isNew says that c was new to this device before the page.
func (e *Engine) stands(c *conversation, s *wirepb.Standing, isNew bool) {
	if s == nil || e.cfg.Watch || c.isOwn() {
		return
	}
	e.readUpTo(c)
	counted, newest := c.counted, newestOf(s.Newest)
	c.heard(newest, s.Count)
	if e.counts(c, s, newest) || c.counted != counted {
		e.touch(c)
		e.emit(ListEvent{Conversations: []pim.ConversationID{c.id}})
	}
	e.readInList(c, isNew)
}

// wholeOf returns the entry at s.Newest if s shows the whole of it. Such an entry counts
// as if it had been pushed.
func wholeOf(c pim.ConversationID, s *wirepb.Summary) (entry pim.Entry, ok bool) {
	if !s.Whole || s.Last == nil || s.Last.Seq != s.Newest {
		return pim.Entry{}, false
	}
	entry, err := wire.EntryOf(c, s.Last)
	return entry, err == nil
}

// lastOf returns the entry that s shows, nil if s shows none. The fields that s itself
// has are taken from s, since a brief Summary leaves them out of the entry.
func lastOf(c pim.ConversationID, s *wirepb.Summary) *pim.Entry {
	if s.Last == nil {
		return nil
	}
	m := s.Last
	return &pim.Entry{
		Conversation: c, Seq: pim.Seq(s.Newest), Anchor: cmp.Or(pim.Seq(m.Anchor), pim.Seq(s.Newest)), Count: s.Count, AllCount: s.AllCount,
		Kind: pim.EntryKind(m.Kind), Sender: pim.UserID(m.Sender), Local: pim.Millis(m.LocalMs),
		Server: pim.Millis(m.ServerMs), Ahead: pim.Millis(m.AheadMs), Payload: m.Payload,
	}
}

// finishSync ends the full sync that is due, if it is complete: the whole list is read, and every
// conversation in it is pulled.
func (e *Engine) finishSync() {
	if e.meta.FullSync && !e.cfg.Watch && e.Synced() && e.sync.full {
		e.meta.FullSync, e.metaDirty = false, true
	}
}

// tickSync asks again for a page that was refused, or not answered in time.
func (e *Engine) tickSync() {
	sentAt, overdue := e.sync.overdue()
	overdue = overdue && !e.paused
	if overdue {
		e.watchdog.unanswered(sentAt, e.now.Mono)
	}
	if overdue || e.sync.due() {
		e.askSync()
	}
}
