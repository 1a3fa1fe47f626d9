package engine

import (
	"cmp"
	"slices"

	"github.com/pim-im/pim"
)

// What a shell may look at between two steps.

// Pending is a message in the outbox and where it stands.
type Pending struct {
	Outgoing
	State SendState  // Queued, InFlight, Delayed or Failed
	Err   *pim.Error // why it waits or has failed
}

func (m *message) pending() Pending {
	p := Pending{Outgoing: m.Outgoing, State: m.state, Err: m.cause}
	if m.Failed != nil {
		p.Err = m.Failed
	}
	return p
}

// Message returns the message id of the outbox.
func (e *Engine) Message(id pim.ClientMessageID) (p Pending, ok bool) {
	m := e.outbox.byID[id]
	if m == nil {
		return p, false
	}
	return m.pending(), true
}

// Outbox returns the messages to conv that are in the outbox, in their order; if conv is
// empty, those to all conversations.
func (e *Engine) Outbox(conv pim.ConversationID) []Pending {
	var list []Pending
	for _, m := range e.outbox.byID {
		if conv == "" || m.Conversation == conv {
			list = append(list, m.pending())
		}
	}
	slices.SortFunc(list, func(a, b Pending) int { return cmp.Compare(a.Number, b.Number) })
	return list
}

// Missing reports whether a seq of conv in from..to is not stored.
func (e *Engine) Missing(conv pim.ConversationID, from, to pim.Seq) bool {
	c := e.conversations.byID[conv]
	return c != nil && c.holes.miss(from, to)
}

// Skipped returns the last seq of the topmost lazy hole of conv that lies below the seq
// before; 0: there is none.
func (e *Engine) Skipped(conv pim.ConversationID, before pim.Seq) pim.Seq {
	if c := e.conversations.byID[conv]; c != nil {
		return c.holes.skipped(before)
	}
	return 0
}

// Setting returns what an entity of the user's own log has come to, commands in
// the outbox included.
func (e *Engine) Setting(entity string) pim.Setting {
	s, _ := e.setting(entity)
	return s
}

// User returns whose device this is, empty if that is not known yet.
func (e *Engine) User() pim.UserID { return e.user() }
