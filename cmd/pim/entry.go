package main

import (
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
	case e.Kind == pim.EntryCommand || !utf8.Valid(e.Payload): // a command is protobuf, even where it is valid UTF-8
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
