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
		Count: a.Count, Duplicate: a.Duplicate,
	}
	if s.Anchor == 0 {
		s.Anchor = s.Seq
	}
	e.outbox.delivered(m, s)
	c := e.conversations.get(s.Conversation)
	if c != nil && c.doubt != nil {
		c.doubt.hear(s.Seq)
		return
	}
	if c != nil {
		e.reads(c, &pim.Entry{Kind: m.Kind, Sender: e.user(), Seq: s.Seq, Count: s.Count})
	}
	if c == nil || s.Seq <= c.known {
		if c != nil && m.command == nil && !s.Duplicate && !c.holes.miss(s.Seq, s.Seq) && !c.checked {
			e.suspect(c) // another entry is stored at that seq
		}
		if m.command != nil { // a pull has left it out, because a later command superseded it
			e.showSetting(m.command.Entity())
		}
		return
	}
	if !madeUp(m) || s.Duplicate || m.First != 0 {
		// The entry is not made up from m: the writer decides who its members are; and
		// an earlier transmission, whose answer this may be, may have differed.
		c.heard(s.Seq, s.Count)
		e.touch(c)
		e.wantPull(c)
		return
	}
	if len(a.Payload) > 0 { // the server has written another payload, as it may for a read
		m.Payload = a.Payload
	}
	e.own(c, pim.Entry{
		Conversation: s.Conversation, Seq: s.Seq, Anchor: s.Anchor, Count: s.Count, Kind: m.Kind,
		Sender: e.meta.User, Device: e.meta.Device, ClientID: m.ID,
		Local: m.Local, Server: s.Server, Ahead: s.Ahead, Order: s.Order, Payload: m.Payload,
	})
}

// madeUp reports whether the entry can be made up from m and its answer.
func madeUp(m *message) bool { return m.Kind == pim.EntryMessage || m.Kind == pim.EntryCommand }

// left takes note that m has left the outbox, with the state end. A command that has not
// reached the server changes a setting; one that has reached it comes back as an entry.
func (e *Engine) left(m *message, end SendState) {
	e.countBack(m, -1)
	if m.command != nil && (end == Failed || end == Discarded) {
		e.showSetting(m.command.Entity())
	}
}
