package content

import (
	"unicode/utf8"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/content/contentpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// Fields of contentpb.Envelope and, in the second group, contentpb.Forward.
const (
	textField     = 1
	forwardField  = 2
	mentionsField = 5
	lastField     = 6 // the greatest that this version knows

	contentField     = 1
	lastForwardField = 5
)

// Parse reads a payload. A payload that is no envelope is a text. The result shares
// nothing with payload. Errors are KindTooLarge over a limit, KindInvalid for all else
// that Encode refuses and for what is neither text nor an envelope; then Preview may
// still find a text to show.
func Parse(payload []byte) (Content, error) {
	if len(payload) > pim.MaxPayload {
		return Content{}, tooLarge(len(payload))
	}
	return parse(payload, 0)
}

func tooLarge(n int) error {
	return pim.Errorf(pim.KindTooLarge, "content: %d bytes, at most %d are allowed", n, pim.MaxPayload)
}

// parse reads a payload that stands in so many forwards.
func parse(payload []byte, forwards int) (Content, error) {
	if !IsEnvelope(payload) {
		if !utf8.Valid(payload) {
			return Content{}, pim.Errorf(pim.KindInvalid, "content: %d bytes that are neither text nor an envelope", len(payload))
		}
		return Content{Text: string(payload)}, nil
	}
	body := payload[len(mark):]
	if err := once(body); err != nil {
		return Content{}, err
	}
	var m contentpb.Envelope
	if err := m.UnmarshalVT(body); err != nil {
		return Content{}, pim.Errorf(pim.KindInvalid, "content: %w", err)
	}
	c := contentOf(&m)
	if err := c.check(); err != nil {
		return Content{}, err
	}
	if c.Forward != nil {
		if err := checkForward(c.Forward.Content, forwards+1); err != nil {
			return Content{}, err
		}
	}
	return c, nil
}

// checkForward checks a payload that stands in so many forwards.
func checkForward(payload []byte, forwards int) error {
	if forwards > MaxForwards {
		return pim.Errorf(pim.KindTooLarge, "content: more than %d forwards in each other", MaxForwards)
	}
	_, err := parse(payload, forwards)
	return err
}

// once checks, before anything is decoded, that each part stands once and that there
// are not too many mentions. An empty one takes two bytes, and 50 times that when it is
// decoded.
func once(body []byte) error {
	mentions := 0
	var seen [lastField + 1]bool
	for len(body) > 0 {
		num, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return unreadable(n)
		}
		m := protowire.ConsumeFieldValue(num, kind, body[n:])
		if m < 0 {
			return unreadable(m)
		}
		switch {
		case num == mentionsField:
			mentions++
		case num <= lastField && seen[num]:
			return pim.Errorf(pim.KindInvalid, "content: field %d stands twice", num)
		case num <= lastField:
			seen[num] = true
		}
		if num == forwardField && kind == protowire.BytesType {
			// Otherwise a preview could show another text than the whole.
			value, _ := protowire.ConsumeBytes(body[n:])
			if err := onceInForward(value); err != nil {
				return err
			}
		}
		body = body[n+m:]
	}
	if mentions > MaxMentions {
		return tooManyMentions(mentions)
	}
	return nil
}

// onceInForward checks that each known field of a forward stands once.
func onceInForward(body []byte) error {
	var seen [lastForwardField + 1]bool
	for len(body) > 0 {
		num, _, n := protowire.ConsumeField(body)
		switch {
		case n < 0:
			return unreadable(n)
		case num <= lastForwardField && seen[num]:
			return pim.Errorf(pim.KindInvalid, "content: field %d of a forward stands twice", num)
		case num <= lastForwardField:
			seen[num] = true
		}
		body = body[n:]
	}
	return nil
}

func unreadable(n int) error {
	return pim.Errorf(pim.KindInvalid, "content: %w", protowire.ParseError(n))
}

func contentOf(m *contentpb.Envelope) Content {
	c := Content{Text: m.Text, Thread: pim.Seq(m.Thread), Unknown: m.ProtoReflect().GetUnknown()}
	if f := m.Forward; f != nil {
		c.Forward = &Forward{
			Content: f.Content, Sender: pim.UserID(f.Sender), Conversation: pim.ConversationID(f.Conversation),
			Seq: pim.Seq(f.Seq), Time: pim.Millis(f.TimeMs), Unknown: f.ProtoReflect().GetUnknown(),
		}
	}
	if r := m.Reply; r != nil {
		c.Reply = &Reply{Seq: pim.Seq(r.Seq), Sender: pim.UserID(r.Sender), Excerpt: r.Excerpt, Unknown: r.ProtoReflect().GetUnknown()}
	}
	for _, p := range m.Mentions {
		c.Mentions = append(c.Mentions, Mention{
			User: pim.UserID(p.User), Offset: int(p.Offset), Length: int(p.Length), Unknown: p.ProtoReflect().GetUnknown(),
		})
	}
	if x := m.Custom; x != nil {
		c.Custom = &Custom{Type: x.Type, Data: x.Data, Unknown: x.ProtoReflect().GetUnknown()}
	}
	return c
}

// Encode returns c as a payload: plain text if c has no other part, else an envelope.
// What Parse has read becomes a payload of the same meaning, unknown parts included.
// Errors are KindTooLarge over a limit, KindInvalid if something cannot be: a text that
// is not UTF-8, a mention beyond the text, a forward of what Parse refuses.
func (c *Content) Encode() ([]byte, error) { return c.Append(nil) }

// Append appends what Encode returns to dst. If there is an error, it returns dst.
func (c *Content) Append(dst []byte) ([]byte, error) {
	if err := c.check(); err != nil {
		return dst, err
	}
	if c.plain() {
		if len(c.Text) > pim.MaxPayload {
			return dst, tooLarge(len(c.Text))
		}
		return append(dst, c.Text...), nil
	}
	m := contentpb.Envelope{Text: c.Text, Thread: uint64(c.Thread)}
	m.ProtoReflect().SetUnknown(c.Unknown)
	if f := c.Forward; f != nil {
		if err := checkForward(f.Content, 1); err != nil {
			return dst, err
		}
		m.Forward = &contentpb.Forward{
			Content: f.Content, Sender: string(f.Sender), Conversation: string(f.Conversation), Seq: uint64(f.Seq), TimeMs: int64(f.Time),
		}
		m.Forward.ProtoReflect().SetUnknown(f.Unknown)
	}
	if r := c.Reply; r != nil {
		m.Reply = &contentpb.Reply{Seq: uint64(r.Seq), Sender: string(r.Sender), Excerpt: r.Excerpt}
		m.Reply.ProtoReflect().SetUnknown(r.Unknown)
	}
	for _, p := range c.Mentions {
		mention := &contentpb.Mention{User: string(p.User), Offset: uint32(p.Offset), Length: uint32(p.Length)}
		mention.ProtoReflect().SetUnknown(p.Unknown)
		m.Mentions = append(m.Mentions, mention)
	}
	if x := c.Custom; x != nil {
		m.Custom = &contentpb.Custom{Type: x.Type, Data: x.Data}
		m.Custom.ProtoReflect().SetUnknown(x.Unknown)
	}
	size := m.SizeVT()
	if size > pim.MaxPayload-len(mark) {
		return dst, tooLarge(len(mark) + size)
	}
	at := len(dst) + len(mark)
	out := append(append(dst, mark...), make([]byte, size)...)
	if _, err := m.MarshalToSizedBufferVT(out[at:]); err != nil {
		panic("content: marshal: " + err.Error()) // the buffer has its size: cannot happen
	}
	return out, nil
}
