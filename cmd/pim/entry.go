package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
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
	Kind            string             `json:"kind"`
	Text            *string            `json:"text,omitempty"`    // a message's payload if it is valid UTF-8
	Payload         []byte             `json:"payload,omitempty"` // the payload if not, in base64
	Members         []pim.UserID       `json:"members,omitempty"` // whom a create, join or leave is about
}

func jsonOf(e *pim.Entry) entryJSON {
	j := entryJSON{
		Conversation: e.Conversation, Seq: e.Seq, Anchor: e.Anchor,
		Sender: e.Sender, Device: e.Device, ClientMessageID: e.ClientID.String(),
		LocalMS: e.Local, ServerMS: e.Server, Kind: e.Kind.String(), Members: e.Members,
	}
	switch {
	case !utf8.Valid(e.Payload):
		j.Payload = e.Payload
	case e.Kind == pim.EntryMessage || len(e.Payload) > 0:
		text := string(e.Payload)
		j.Text = &text
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

func sentOf(id pim.ClientMessageID, sent client.Sent) sentJSON {
	return sentJSON{sent.Conversation, sent.Seq, sent.Anchor, id.String(), sent.Server, sent.Duplicate}
}

// lineOf returns an entry for people, without a line end.
func lineOf(e *pim.Entry) string {
	switch e.Kind {
	case pim.EntryMessage:
		if !utf8.Valid(e.Payload) {
			return fmt.Sprintf("%s: (%d bytes that are not text)", e.Sender, len(e.Payload))
		}
		return fmt.Sprintf("%s: %s", e.Sender, printable(string(e.Payload)))
	case pim.EntryCreate:
		return fmt.Sprintf("* %s created the group: %s", e.Sender, userList(e.Members))
	case pim.EntryJoin:
		return membership(e, "joined", "added")
	case pim.EntryLeave:
		return membership(e, "left", "removed")
	}
	return fmt.Sprintf("* %s wrote something that this version does not know", e.Sender)
}

// membership says what a join or leave did, to the sender or to others.
func membership(e *pim.Entry, self, others string) string {
	if len(e.Members) == 1 && e.Members[0] == e.Sender {
		return fmt.Sprintf("* %s %s", e.Sender, self)
	}
	return fmt.Sprintf("* %s %s %s", e.Sender, others, userList(e.Members))
}

func userList(users []pim.UserID) string {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = string(u)
	}
	return strings.Join(names, ", ")
}

// printable makes somebody else's text safe to print on a terminal: it keeps to
// one line, and what would command the terminal or reorder the line is replaced.
func printable(s string) string {
	const zeroWidthJoiner = '\u200d' // emoji are made with it
	s = strings.ReplaceAll(s, "\n", " ⏎ ")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == zeroWidthJoiner {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return '\ufffd'
	}, s)
}
