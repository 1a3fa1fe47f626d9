package main

import (
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client"
	"github.com/pim-im/pim/cmd/pim/chat"
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
	Members []pim.UserID `json:"members,omitempty"` // whom a create, join or leave is about
}

// contentJSON is a payload for scripts. The names are stable.
type contentJSON struct {
	Text    *string `json:"text,omitempty"`    // the payload if it is valid UTF-8
	Payload []byte  `json:"payload,omitempty"` // the payload if not, in base64
}

func contentOf(payload []byte) contentJSON {
	if !utf8.Valid(payload) {
		return contentJSON{Payload: payload}
	}
	text := string(payload)
	return contentJSON{Text: &text}
}

func jsonOf(e *pim.Entry) entryJSON {
	j := entryJSON{
		Conversation: e.Conversation, Seq: e.Seq, Anchor: e.Anchor,
		Sender: e.Sender, Device: e.Device, ClientMessageID: e.ClientID.String(),
		LocalMS: e.Local, ServerMS: e.Server, AheadMS: e.Ahead, Kind: e.Kind.String(), Members: e.Members,
	}
	switch {
	case e.Kind == pim.EntryCommand: // it is protobuf, even where it is valid UTF-8
		j.Payload = e.Payload
	case e.Kind == pim.EntryMessage || len(e.Payload) > 0:
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
