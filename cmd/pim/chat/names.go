package chat

import (
	"unicode/utf8"

	"github.com/pim-im/pim"
)

// name returns what the user calls u.
func (m *Model) name(u pim.UserID) string {
	if u == "" {
		u = m.me // a message in the outbox names no sender
	}
	contact := pim.Command{Kind: pim.CommandContact, Subject: string(u)}
	if s := m.settings[contact.Entity()]; s.InForce(0) && len(s.Value) > 0 && utf8.Valid(s.Value) {
		return Printable(string(s.Value))
	}
	return Printable(string(u))
}

// title returns what a conversation is called.
func (m *Model) title(id pim.ConversationID) string {
	if user, ok := peer(id, m.me); ok {
		return m.name(user)
	}
	return Printable(string(id))
}

func (m *Model) blocked(id pim.ConversationID) bool {
	user, direct := peer(id, m.me)
	block := pim.Command{Kind: pim.CommandBlock, Subject: string(user)}
	s := m.settings[block.Entity()]
	return direct && s.InForce(0)
}
