package chat

import (
	"context"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/content"
)

// Effect is what a typed line or the Model asks for.
type Effect interface{ effect() }

// What the SDK is asked to do; see Do.
type (
	// Send queues a message. In a group it mentions whom Text names with "@".
	Send struct {
		Conversation pim.ConversationID
		Text         string
	}

	// Reply queues a message that answers To.
	Reply struct {
		Send
		To *pim.Entry
	}

	// Refer queues an edit, a recall, a reaction or a pin for all, or the end of one: what they do
	// to the message To. An erase goes up to To, 0: up to the newest that the device has heard of. Kind and the fields behind it are those of pim.Entry.
	Refer struct {
		Conversation pim.ConversationID
		To           pim.Seq
		Kind         pim.EntryKind
		Payload      []byte
		Reaction     string
		Removed      bool
	}

	// Resend queues a failed message again. A zero ID stands for the last that failed.
	Resend struct{ ID pim.ClientMessageID }

	// Discard gives a failed message up. A zero ID stands for the last that failed.
	Discard struct{ ID pim.ClientMessageID }

	// Change writes a command into the user's own log.
	Change struct{ pim.Command }

	// Online connects, or leaves the connection.
	Online struct{ On bool }

	// Look says whether somebody looks at the screen.
	Look struct{ On bool }

	// Reading says whether the user reads a conversation.
	Reading struct {
		Conversation pim.ConversationID
		On           bool
	}

	// Watch says which conversation and user are on the screen.
	Watch struct {
		Conversation pim.ConversationID
		User         pim.UserID // empty: none
	}

	// Typing says that the user writes.
	Typing struct{ Conversation pim.ConversationID }

	// Group creates a group.
	Group struct{ Members []pim.UserID }

	// Leave leaves a group.
	Leave struct{ Conversation pim.ConversationID }

	// Accept takes an invitation into a group.
	Accept struct{ Conversation pim.ConversationID }
)

// What a view is asked to do.
type (
	// Open shows a conversation.
	Open struct{ Conversation pim.ConversationID }

	// Help shows the commands.
	Help struct{}

	// Quit ends the chat.
	Quit struct{}
)

// What the Model wants to know.
type (
	relist  struct{} // the conversations
	refresh struct{} // what is shown of the open one
	load    struct{ conversation pim.ConversationID }
	older   struct{ conversation pim.ConversationID }
)

func (Send) effect()    {}
func (Refer) effect()   {}
func (Resend) effect()  {}
func (Discard) effect() {}
func (Change) effect()  {}
func (Online) effect()  {}
func (Look) effect()    {}
func (Reading) effect() {}
func (Watch) effect()   {}
func (Typing) effect()  {}
func (Group) effect()   {}
func (Leave) effect()   {}
func (Accept) effect()  {}
func (Open) effect()    {}
func (Help) effect()    {}
func (Quit) effect()    {}
func (relist) effect()  {}
func (refresh) effect() {}
func (load) effect()    {}
func (older) effect()   {}

// Said returns a text that confirms a change that a person asked for; "" for others.
func (c Change) Said() string {
	said := map[pim.CommandKind][2]string{
		pim.CommandContact: {"is a contact", "is no contact any more"},
		pim.CommandBlock:   {"is blocked", "is no longer blocked"},
		pim.CommandMute:    {"is muted", "is no longer muted"},
		pim.CommandPin:     {"is pinned", "is no longer pinned"},
		pim.CommandUnread:  {"is marked as unread", ""},

		pim.CommandNoReceipts: {"gives and gets no receipts", "gives and gets receipts"},
		pim.CommandNoPresence: {"does not show when they are there, and is not shown", "shows when they are there, and is shown"},
	}[c.Kind]
	if c.Kind == pim.CommandAdders {
		said[0] = map[pim.Adders]string{
			pim.AddersKnown: "is added to groups by those whom they know, others invite them",
			pim.AddersAll:   "is added to groups by everybody",
			pim.AddersNone:  "is asked before anybody adds them to a group",
		}[c.Adders]
	}
	switch {
	case said[0] == "", c.Removed && said[1] == "":
		return ""
	case c.Removed:
		return c.Subject + " " + said[1]
	}
	return c.Subject + " " + said[0]
}

// Do carries out an effect on c, and returns the ID of the message or command that
// comes of it. For an effect that is not for the SDK, the error is of KindInvalid.
func Do(ctx context.Context, c *client.Client, e Effect) (id pim.ClientMessageID, err error) {
	var m *client.Sending
	switch e := e.(type) {
	case Send:
		m, err = send(ctx, c, e, nil)
	case Reply:
		m, err = send(ctx, c, e.Send, e.To)
	case Refer:
		m, err = refer(ctx, c, e)
	case Resend:
		m, err = c.Resend(ctx, e.ID)
	case Change:
		m, err = c.Do(ctx, e.Command)
	case Group:
		m, err = c.CreateGroup(ctx, e.Members)
	case Leave:
		m, err = c.Leave(ctx, e.Conversation)
	case Accept:
		m, err = c.Conversation(e.Conversation).Accept(ctx)
	case Discard:
		return e.ID, c.Discard(ctx, e.ID)
	case Online:
		return id, c.SetOnline(e.On)
	case Reading:
		if e.On {
			return id, c.Conversation(e.Conversation).Open(ctx)
		}
		return id, c.Conversation(e.Conversation).Close(ctx)
	case Watch:
		var users []pim.UserID
		if e.User != "" {
			users = append(users, e.User)
		}
		return id, c.Look(ctx, []pim.ConversationID{e.Conversation}, users...)
	case Typing:
		return id, c.Typing(ctx, e.Conversation)
	case Look:
		return id, c.SetForeground(e.On)
	default:
		return id, pim.Errorf(pim.KindInvalid, "this cannot be done here")
	}
	if err != nil {
		return id, err
	}
	return m.ID(), nil
}

// send queues e, which answers to unless that is nil. A text that says nothing besides may be any bytes.
func send(ctx context.Context, c *client.Client, e Send, to *pim.Entry) (m *client.Sending, err error) {
	payload := []byte(e.Text)
	switch {
	case to != nil:
		payload, err = sayIn(e.Conversation, content.Content{Text: e.Text, Reply: content.ReplyTo(to), Thread: content.ThreadOf(to)})
	case e.Conversation.IsGroup() && utf8.ValidString(e.Text):
		payload, err = sayIn(e.Conversation, content.Content{Text: e.Text})
	}
	if err != nil {
		return nil, err
	}
	return c.Send(ctx, e.Conversation, payload, mentioning(e.Conversation, e.Text)...)
}

func refer(ctx context.Context, c *client.Client, e Refer) (*client.Sending, error) {
	switch e.Kind {
	case pim.EntryEdit:
		return c.Edit(ctx, e.Conversation, e.To, e.Payload)
	case pim.EntryErase:
		return c.Erase(ctx, e.Conversation, e.To)
	case pim.EntryRecall:
		return c.Recall(ctx, e.Conversation, e.To)
	case pim.EntryReaction:
		return c.React(ctx, e.Conversation, e.To, e.Reaction, !e.Removed)
	}
	return c.PinMessage(ctx, e.Conversation, e.To, !e.Removed)
}
