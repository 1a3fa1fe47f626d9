package chat

import (
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// reads is whether the user reads the open conversation.
type reads struct {
	told   pim.ConversationID // the SDK was told that this one is read; empty: none
	newest pim.Seq            // that was shown
	marked bool               // as unread since newest was shown
}

// reading tells the SDK if the user begins or ends to read a conversation. The open one is read
// while its newest message is in the pane. Marked as unread, it is not, until something new is
// shown or it is opened again: the SDK takes the mark away when it is read.
func (m *Model) reading() []Effect {
	id := m.open
	if m.scroll > 0 || m.reads.marked {
		id = ""
	}
	if id == m.reads.told {
		return nil
	}
	var effects []Effect
	if m.reads.told != "" {
		effects = append(effects, Reading{Conversation: m.reads.told})
	}
	if id != "" {
		effects = append(effects, Reading{Conversation: id, On: true})
	}
	m.reads.told = id
	return effects
}

// sees notes the newest message that is held.
func (m *Model) sees() {
	for i := range m.items {
		if seq := m.items[i].Entry.Seq; seq > m.reads.newest {
			m.reads.newest, m.reads.marked = seq, false
		}
	}
}

// keepUnread takes whether the open conversation is marked as unread, by this device or
// another.
func (m *Model) keepUnread(ev client.SettingEvent) {
	mark := pim.Command{Kind: pim.CommandUnread, Subject: string(m.open)}
	if ev.Entity == mark.Entity() {
		m.reads.marked = ev.Setting.InForce(0)
	}
}

// unread reports whether a conversation is marked as unread.
func (m *Model) unread(id pim.ConversationID) bool {
	return slices.ContainsFunc(m.list, func(c client.Info) bool { return c.ID == id && c.Marked })
}

// toggleUnread marks the open conversation as unread, or no longer.
func (m *Model) toggleUnread() []Effect {
	if m.open == "" {
		return nil
	}
	return []Effect{Change{pim.Command{Kind: pim.CommandUnread, Subject: string(m.open), Removed: m.unread(m.open)}}}
}
