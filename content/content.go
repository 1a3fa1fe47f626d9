// Package content reads and writes what messages say. To the server a payload is
// opaque; between devices it is plain text in UTF-8, or, behind two bytes that no
// text begins with, an envelope: text with a reply, a forward, mentions, and parts
// that later versions add. docs/content.md has the format for other languages.
package content

import (
	"bytes"

	"github.com/pim-im/pim"
)

// Limits of a Content.
const (
	MaxExcerpt  = 256 // bytes of Reply.Excerpt
	MaxMentions = 256
	MaxForwards = 4   // forwards within each other
	MaxType     = 128 // bytes of Custom.Type
)

// Content is what a message says. Without a part besides Text it is a plain text.
type Content struct {
	Text     string // what people read; with a forward, what the sender says about it
	Forward  *Forward
	Reply    *Reply
	Thread   pim.Seq   // the message that the thread began with; 0: none
	Mentions []Mention // in the order of their offsets, none over another
	Custom   *Custom
	Unknown  []byte // parts of a later version, as they were encoded
}

// Forward is a message that stands somewhere else, told again. Nobody has checked that
// the message was written: it is what the sender says.
type Forward struct {
	Content      []byte             // the message's payload; Parse reads it
	Sender       pim.UserID         // empty: not told
	Conversation pim.ConversationID // empty: not told
	Seq          pim.Seq            // in Conversation; 0: not told
	Time         pim.Millis         // when it was written; 0: not told
	Unknown      []byte             // fields of a later version, as they were encoded
}

// Reply names the message of the same conversation that is answered. Who and what is
// the word of the message's sender, too: a device that has the message shows that.
type Reply struct {
	Seq     pim.Seq
	Sender  pim.UserID
	Excerpt string // the beginning of its text
	Unknown []byte // fields of a later version, as they were encoded
}

// Mention is a place in Content.Text that names a user. It is counted in bytes of UTF-8,
// so the place is Text[Offset:Offset+Length], and begins and ends between code points.
type Mention struct {
	User           pim.UserID // empty: everybody
	Offset, Length int
	Unknown        []byte // fields of a later version, as they were encoded
}

// Custom is what an app adds for itself.
type Custom struct {
	Type    string // as a media type, such as "application/vnd.example.poll"
	Data    []byte
	Unknown []byte // fields of a later version, as they were encoded
}

// mark begins an envelope. No UTF-8 has the byte 0xFF; the second byte is the format's
// version.
var mark = []byte{0xFF, 0x01}

// IsEnvelope reports whether payload, or the beginning of one, is an envelope.
func IsEnvelope(payload []byte) bool { return bytes.HasPrefix(payload, mark) }

// plain reports whether c is encoded as plain text.
func (c *Content) plain() bool {
	return c.Forward == nil && c.Reply == nil && c.Thread == 0 && len(c.Mentions) == 0 && c.Custom == nil && len(c.Unknown) == 0
}

// ReplyTo returns a Reply to the message e.
func ReplyTo(e *pim.Entry) *Reply {
	text, _ := Preview(e.Payload, false)
	return &Reply{Seq: e.Seq, Sender: e.Sender, Excerpt: cut(text, MaxExcerpt)}
}

// ThreadOf returns the thread that the message e is in; 0: none.
func ThreadOf(e *pim.Entry) pim.Seq {
	c, err := Parse(e.Payload)
	if err != nil {
		return 0
	}
	return c.Thread
}

// ForwardOf returns the message e as a Forward that tells where it stands. A message of
// a conversation whose members shall not be known gets a Forward of its Content alone.
func ForwardOf(e *pim.Entry) *Forward {
	return &Forward{
		Content: bytes.Clone(e.Payload), Sender: e.Sender, Conversation: e.Conversation, Seq: e.Seq, Time: e.Time(),
	}
}
