package chat

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
)

// outgoing is what a Model knows of a message or command in the outbox.
type outgoing struct {
	conversation pim.ConversationID // empty: a group that is to be created
	state        client.SendState
	retryAt      time.Time // Delayed: sent again then; zero: when there is a connection
	refers       bool      // it changes another message: a failed one leaves the outbox
	followed     bool      // the group is opened when the server has created it
}

// sending notes what becomes of a message or command.
func (m *Model) sending(ev client.SendEvent) []Effect {
	o := m.outbox[ev.ID]
	if o == nil {
		o = &outgoing{}
		m.outbox[ev.ID] = o
	}
	o.conversation, o.state, o.retryAt = ev.Conversation, ev.State, time.Time{}
	_, command := ev.Conversation.OwnUser()
	switch ev.State {
	case client.Delayed:
		if ev.RetryIn > 0 {
			o.retryAt = m.now.Add(ev.RetryIn)
		}
	case client.Failed:
		if command || o.refers {
			delete(m.outbox, ev.ID)
			m.say("a change was given up: " + Plain(ev.Err))
		} else if ev.Conversation != m.open {
			m.say("not sent: " + Plain(ev.Err))
		}
	case client.Delivered, client.Superseded, client.Discarded:
		delete(m.outbox, ev.ID)
		if o.followed && ev.State == client.Delivered {
			return m.show(ev.Sent.Conversation)
		}
	}
	return nil
}

// failed returns how many messages to id have failed; of all conversations, if id
// is empty.
func (m *Model) failed(id pim.ConversationID) int {
	n := 0
	for _, o := range m.outbox {
		if o.state == client.Failed && (id == "" || o.conversation == id) {
			n++
		}
	}
	return n
}

// lastFailed returns the last message of the open conversation that has failed,
// or else a group that could not be created.
func (m *Model) lastFailed() (pim.ClientMessageID, bool) {
	for _, item := range slices.Backward(m.items) {
		if item.State == client.Failed {
			return item.Entry.ClientID, true
		}
	}
	for id, o := range m.outbox {
		if o.state == client.Failed && o.conversation == "" {
			return id, true
		}
	}
	return pim.ClientMessageID{}, false
}
