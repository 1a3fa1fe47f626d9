package engine

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// sent takes a PIMSendAck: the message is durable.
func (e *Engine) sent(a *wirepb.PIMSendAck) {
	id, ok := wire.ClientID(a.ClientMessageId)
	m := e.outbox.byID[id]
	if !ok || m == nil { // answered before
		return
	}
	s := Sent{
		Conversation: pim.ConversationID(a.Conversation), Seq: pim.Seq(a.Seq), Anchor: pim.Seq(a.Anchor),
		Server: pim.Millis(a.ServerMs), Ahead: pim.Millis(a.AheadMs), Order: pim.Millis(a.OrderMs),
		Count: a.Count, AllCount: a.AllCount, Duplicate: a.Duplicate,
	}
	if s.Seq == 0 { // of an erase: the user has left, and the entry stands where the user may not read
		e.outbox.delivered(m, s)
		if c := e.conversations.get(s.Conversation); c != nil && m.Kind == pim.EntryErase {
			e.erase(c, pim.Erasure{By: e.meta.User, UpTo: m.Refers})
		}
		return
	}
	m.counts = a.MentionCounts
	s.Strangers = e.strangers(m)
	if s.Anchor == 0 {
		s.Anchor = s.Seq
	}
	e.outbox.delivered(m, s)
	gone := trimmedAnswer(m, s)
	c := e.conversations.get(s.Conversation)
	if c == nil { // with Config.Watch: its entries are not stored
		return
	}
	switch {
	case gone:
		if c.doubt == nil && s.Seq > c.known {
			e.aim(c, unknownSeq)
		}
		return
	case c.doubt != nil:
		c.doubt.hear(s.Seq)
	default:
		e.placed(c, m, s, a.Payload)
	}
	if m.command != nil && (c.doubt != nil || s.Seq > c.known) {
		e.wishes.expect(m.command.Entity())
	}
	if s.Seq > c.known || c.holes.miss(s.Seq, s.Seq) {
		e.keepUnseen(c, m, s)
	}
}

// strangers returns whom m names and the server does not count as mentioned, since they are not
// members.
func (e *Engine) strangers(m *message) (users []pim.UserID) {
	if m.MentionAll || len(m.counts) != len(m.Mentions) { // then it counts nobody by name
		return nil
	}
	for i, u := range m.Mentions {
		if m.counts[i] == 0 && u != e.meta.User {
			users = append(users, u)
		}
	}
	return users
}

// trimmedAnswer reports whether s says that m was appended so long ago that retention has removed
// its entry: nothing but the seq is known any more.
func trimmedAnswer(m *message, s Sent) bool {
	return s.Duplicate && s.Server == 0 && s.Count == 0 && m.command == nil
}

// placed takes note in c that m stands at s. payload is what the server has written in place
// of m's payload, as it may for a read command; empty: it has written m's.
func (e *Engine) placed(c *conversation, m *message, s Sent, payload []byte) {
	said := pim.Entry{Kind: m.Kind, Sender: e.user(), Device: e.meta.Device, Seq: s.Seq, Count: s.Count, AllCount: s.AllCount}
	if m.Kind == pim.EntryCreate { // of the members only this one is known
		said.Members = []pim.UserID{e.user()}
	}
	e.readBy(c, &said)
	switch {
	case c.holes.miss(s.Seq, s.Seq): // the device has passed over it
		e.setHoles(c, c.holes.open(s.Seq))
		e.wantPull(c)
	case s.Seq <= c.known && m.command != nil: // a pull has left it out, because a later command superseded it
		e.showSetting(m.command.Entity())
	case s.Seq <= c.known:
		if !s.Duplicate && !c.checked {
			e.suspect(c) // another entry is stored at that seq
		}
	case !madeUp(m) || s.Duplicate || m.First != 0:
		// The entry is pulled, not made up from m. The writer may have chosen other members,
		// or this answers an earlier transmission, which may have differed from m.
		c.heard(s.Seq, s.Count)
		e.touch(c)
		e.wantPull(c)
	default:
		if len(payload) > 0 {
			m.Payload = payload
		}
		e.own(c, e.entryOf(m, s))
	}
	if m.command != nil && s.Seq > c.known {
		e.foretellOwn(s.Seq, m)
	}
}

// entryOf makes up the entry of m from the server's answer.
func (e *Engine) entryOf(m *message, s Sent) pim.Entry {
	entry := pim.Entry{
		Conversation: s.Conversation, Seq: s.Seq, Anchor: s.Anchor, Count: s.Count, Kind: m.Kind,
		MentionAll: m.MentionAll, AllCount: s.AllCount,
		Sender: e.meta.User, Device: e.meta.Device, ClientID: m.ID, Members: m.Members,
		Local: m.Local, Server: s.Server, Ahead: s.Ahead, Order: s.Order, Payload: m.Payload,
		Refers: m.Refers, Reaction: m.Reaction, Removed: m.Removed, Retain: m.Retain,
	}
	for i, u := range m.Mentions {
		named := pim.Mention{User: u}
		if len(m.counts) == len(m.Mentions) {
			named.Count = m.counts[i]
		}
		entry.Mentions = append(entry.Mentions, named)
	}
	return entry
}

// madeUp reports whether the entry can be made up from m and its answer.
func madeUp(m *message) bool {
	return m.Kind == pim.EntryMessage && len(m.counts) == len(m.Mentions) || m.Kind == pim.EntryCommand || m.Refers != 0 && !m.cut
}

// left takes note that m has left the outbox, with the state end. A command that has not
// reached the server changes a setting; one that has reached it comes back as an entry.
func (e *Engine) left(m *message, end SendState) {
	e.countBack(m, -1)
	if m.command != nil && (end == Failed || end == Discarded) {
		e.showSetting(m.command.Entity())
	}
}
