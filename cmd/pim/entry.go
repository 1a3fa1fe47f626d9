package main

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
	"github.com/pim-im/pim/content"
)

// entryJSON is an entry for scripts. The names are stable.
type entryJSON struct {
	Conversation    pim.ConversationID `json:"conversation"`
	Seq             pim.Seq            `json:"seq"`
	Anchor          pim.Seq            `json:"anchor"`
	Sender          pim.UserID         `json:"sender"`
	Device          pim.DeviceID       `json:"device"`
	ClientMessageID string             `json:"client_message_id"`
	LocalMS         pim.Millis         `json:"local_ms"`
	ServerMS        pim.Millis         `json:"server_ms"`
	AheadMS         pim.Millis         `json:"ahead_ms,omitempty"` // how far server_ms is ahead of the writer's clock
	Kind            string             `json:"kind"`
	contentJSON
	Members    []pim.UserID `json:"members,omitempty"`   // whom a create, join or leave is about
	Invited    []pim.UserID `json:"invited,omitempty"`   // whom a create or join only invites, or whose invitation a leave ends
	Mentioned  []pim.UserID `json:"mentioned,omitempty"` // whom a message mentions; "mentions" are the places in its text
	MentionAll bool         `json:"mention_all,omitempty"`
	Refers     pim.Seq      `json:"refers,omitempty"`    // the message that an edit, recall, reaction or pin is about
	Reaction   string       `json:"reaction,omitempty"`  // of a reaction
	Removed    bool         `json:"removed,omitempty"`   // of a reaction or pin: it was taken back
	Erased     bool         `json:"erased,omitempty"`    // what it said was recalled or erased
	RetainMS   pim.Millis   `json:"retain_ms,omitempty"` // of a retain: for how long messages are kept; left out: as long as the server keeps them
}

// contentJSON is a payload for scripts. The names are stable.
type contentJSON struct {
	Text     *string        `json:"text,omitempty"`     // of a text or an envelope
	Payload  []byte         `json:"payload,omitempty"`  // the payload if it is neither, in base64
	Envelope []byte         `json:"envelope,omitempty"` // the payload if it is an envelope, in base64; what follows is in it
	Reply    *replyJSON     `json:"reply,omitempty"`
	Thread   pim.Seq        `json:"thread,omitempty"`
	Mentions []mentionJSON  `json:"mentions,omitempty"`
	Forward  *forwardedJSON `json:"forward,omitempty"`
}

type replyJSON struct {
	Seq     pim.Seq    `json:"seq"`
	Sender  pim.UserID `json:"sender"`
	Excerpt string     `json:"excerpt"`          // empty if the message is gone
	Erased  bool       `json:"erased,omitempty"` // the message was recalled or erased
}

type mentionJSON struct {
	User   pim.UserID `json:"user,omitempty"` // left out: everybody
	Offset int        `json:"offset"`         // in bytes of UTF-8, as length
	Length int        `json:"length"`
}

type forwardedJSON struct {
	contentJSON
	Sender       pim.UserID         `json:"sender,omitempty"`
	Conversation pim.ConversationID `json:"conversation,omitempty"`
	Seq          pim.Seq            `json:"seq,omitempty"`
	TimeMS       pim.Millis         `json:"time_ms,omitempty"`
}

func contentOf(payload []byte) contentJSON {
	c, err := content.Parse(payload)
	if err != nil {
		return contentJSON{Payload: payload}
	}
	j := contentJSON{Text: &c.Text, Thread: c.Thread}
	if content.IsEnvelope(payload) {
		j.Envelope = payload
	}
	if r := c.Reply; r != nil {
		j.Reply = &replyJSON{Seq: r.Seq, Sender: r.Sender, Excerpt: r.Excerpt}
	}
	for _, m := range c.Mentions {
		j.Mentions = append(j.Mentions, mentionJSON{m.User, m.Offset, m.Length})
	}
	if f := c.Forward; f != nil {
		j.Forward = &forwardedJSON{contentOf(f.Content), f.Sender, f.Conversation, f.Seq, f.Time}
	}
	return j
}

func jsonOf(e *pim.Entry) entryJSON {
	j := entryJSON{
		Conversation: e.Conversation, Seq: e.Seq, Anchor: e.Anchor,
		Sender: e.Sender, Device: e.Device, ClientMessageID: e.ClientID.String(),
		LocalMS: e.Local, ServerMS: e.Server, AheadMS: e.Ahead, Kind: e.Kind.String(), Members: e.Members, Invited: e.Invited,
		Refers: e.Refers, Reaction: e.Reaction, Removed: e.Removed, Erased: e.Erased,
		RetainMS: e.Retain,
	}
	j.MentionAll = e.MentionAll
	for _, m := range e.Mentions {
		j.Mentioned = append(j.Mentioned, m.User)
	}
	switch {
	case e.Kind == pim.EntryCommand: // it is protobuf, even where it is valid UTF-8
		j.Payload = e.Payload
	case e.Kind == pim.EntryMessage && !e.Erased || len(e.Payload) > 0:
		j.contentJSON = contentOf(e.Payload)
	}
	return j
}

// sentJSON is an acknowledged message for scripts. The names are stable.
type sentJSON struct {
	Conversation    pim.ConversationID `json:"conversation"`
	Seq             pim.Seq            `json:"seq"`
	Anchor          pim.Seq            `json:"anchor"`
	ClientMessageID string             `json:"client_message_id"`
	ServerMS        pim.Millis         `json:"server_ms"`
	Duplicate       bool               `json:"duplicate"`
}

// sentMessageJSON is an acknowledged message of send, for scripts. The names are stable.
type sentMessageJSON struct {
	sentJSON
	Strangers []pim.UserID `json:"strangers,omitempty"` // whom it mentions and who are not members
	Line      int          `json:"line,omitempty"`      // of the input
}

func sentOf(id pim.ClientMessageID, sent client.Sent) sentJSON {
	return sentJSON{sent.Conversation, sent.Seq, sent.Anchor, id.String(), sent.Server, sent.Duplicate}
}

// refusedJSON is a line that was refused, for scripts. The names are stable.
type refusedJSON struct {
	Line  int    `json:"line"`
	Kind  string `json:"error_kind"`
	Error string `json:"error"`
}

func refusedOf(line int, err error) refusedJSON {
	return refusedJSON{line, pim.KindOf(err).String(), chat.Plain(err)}
}
