package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

const (
	maxLooks    = 100
	typingEvery = time.Second // between two PIMTyping for a conversation, at least
)

// looking is what the app has on its screen, and whom it lets know that the user writes.
type looking struct {
	conversations, users []string
	request              uint64             // of the last PIMLook
	typing               pim.ConversationID // of the last PIMTyping
	typedAt              time.Duration
}

// look takes Look.
func (e *Engine) look(in *Look) error {
	if n := len(in.Conversations) + len(in.Users); n > maxLooks {
		return pim.Errorf(pim.KindTooLarge, "%d conversations and users on the screen, at most %d are looked at", n, maxLooks)
	}
	var conversations, users []string
	for _, c := range in.Conversations {
		if err := c.Validate(); err != nil {
			return err
		}
		conversations = append(conversations, string(c))
	}
	for _, u := range in.Users {
		if err := u.Validate(); err != nil {
			return err
		}
		users = append(users, string(u))
	}
	if e.looks.conversations, e.looks.users = conversations, users; e.link.phase == open {
		e.tellLook()
	}
	return nil
}

// tellLook tells the server what is on the screen.
func (e *Engine) tellLook() {
	e.looks.request = e.request()
	e.write(&wirepb.PIMLook{Conversations: e.looks.conversations, Users: e.looks.users, RequestId: e.looks.request})
}

// typing takes Typing.
func (e *Engine) typing(c pim.ConversationID) error {
	if err := c.Validate(); err != nil {
		return err
	}
	now := e.now.Mono
	if e.link.phase != open || c == e.looks.typing && now-e.looks.typedAt < typingEvery {
		return nil
	}
	e.looks.typing, e.looks.typedAt = c, now
	e.write(&wirepb.PIMTyping{Conversation: string(c)})
	return nil
}

func receiptEvent(m *wirepb.PIMReceipt) ReceiptEvent {
	return ReceiptEvent{Conversation: pim.ConversationID(m.Conversation), Receipts: Receipts{
		Delivered: pim.Seq(m.Delivered), Read: pim.Seq(m.Read), ReadAt: pim.Millis(m.ReadMs), Messages: receiptsOf(m.Receipts),
	}}
}

func typingEvent(m *wirepb.PIMTyping) TypingEvent {
	ev := TypingEvent{Conversation: pim.ConversationID(m.Conversation)}
	for _, u := range m.Users {
		ev.Users = append(ev.Users, pim.UserID(u))
	}
	return ev
}

func presenceEvent(m *wirepb.PIMPresence) PresenceEvent {
	return PresenceEvent{User: pim.UserID(m.User), Online: m.Online, Seen: pim.Millis(m.SeenMs)}
}
