package chat

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// typingHolds is how long it is shown that somebody writes.
const typingHolds = 6 * time.Second

// live is what is known of others in the open conversation at the moment.
type live struct {
	typing map[pim.UserID]time.Time // until when they count as writing
	// Of the other user of a direct conversation. Without both, nothing is known.
	online bool
	left   pim.Millis // when the user was connected last
}

// watch looks at the open conversation, and at the other user of a direct one.
func (m *Model) watch() []Effect {
	user, _ := peer(m.open, m.me)
	if user == m.me {
		user = ""
	}
	return []Effect{Watch{m.open, user}}
}

// types takes who has said since the last event that they write in a conversation. Others may still.
func (m *Model) types(ev client.TypingEvent) {
	if ev.Conversation != m.open {
		return
	}
	if m.live.typing == nil {
		m.live.typing = make(map[pim.UserID]time.Time)
	}
	maps.DeleteFunc(m.live.typing, func(_ pim.UserID, until time.Time) bool { return !until.After(m.now) })
	for _, u := range ev.Users {
		m.live.typing[u] = m.now.Add(typingHolds)
	}
}

// comes takes whether a user is connected.
func (m *Model) comes(ev client.PresenceEvent) {
	if user, direct := peer(m.open, m.me); direct && user == ev.User {
		m.live.online, m.live.left = ev.Online, ev.Seen
	}
}

// wrote takes a new entry of the open conversation: its sender writes no longer. A user who has
// written is shown to the other one from then on.
func (m *Model) wrote(e *pim.Entry) []Effect {
	delete(m.live.typing, e.Sender)
	if user, direct := peer(m.open, m.me); direct && user == e.Sender && !m.live.online && m.live.left == 0 {
		return m.watch()
	}
	return nil
}

// writes is for a change of the line: while it is a message to send, others may know.
func (m *Model) writes() []Effect {
	text := m.input.text()
	command := strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//")
	if m.open == "" || text == "" || command || m.aim != nil && m.aim.do.takesLine() {
		return nil
	}
	return []Effect{Typing{m.open}}
}

// doing says what others do in the open conversation at the moment; "" if nothing is known.
func (m *Model) doing() string {
	var names []string
	for u, until := range m.live.typing {
		if until.After(m.now) {
			names = append(names, m.name(u))
		}
	}
	slices.Sort(names)
	switch n := len(names); {
	case n > 3:
		return " · several are typing"
	case n > 1:
		return " · " + strings.Join(names, ", ") + " are typing"
	case n == 1 && m.open.IsGroup():
		return " · " + names[0] + " is typing"
	case n == 1:
		return " is typing"
	case m.live.online:
		return " · online"
	case m.live.left != 0:
		return " · last seen " + m.moment(m.live.left, m.now.In(m.zone))
	}
	return ""
}
