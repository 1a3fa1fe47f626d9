package content

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/conformance"
	"google.golang.org/protobuf/encoding/protowire"
)

// vector is one case of testdata/vectors.json. Bytes are in hexadecimal.
type vector struct {
	Name    string         `json:"name"`
	Hex     string         `json:"hex"`               // the payload
	Content *vectorContent `json:"content,omitempty"` // what it says
	Again   *string        `json:"again,omitempty"`   // the payload that Content is written as, if not Hex
	Error   string         `json:"error,omitempty"`   // the kind of the error, in place of Content
	Preview string         `json:"preview"`           // of the whole payload
	Cut     []vectorCut    `json:"cut,omitempty"`     // and of its beginnings
}

type vectorCut struct {
	Bytes   int    `json:"bytes"` // of the payload
	Preview string `json:"preview"`
	Whole   bool   `json:"whole"`
}

type vectorContent struct {
	Text     string          `json:"text"`
	Forward  *vectorForward  `json:"forward,omitempty"`
	Reply    *vectorReply    `json:"reply,omitempty"`
	Thread   pim.Seq         `json:"thread,omitempty"`
	Mentions []vectorMention `json:"mentions,omitempty"`
	Custom   *vectorCustom   `json:"custom,omitempty"`
	Unknown  string          `json:"unknown,omitempty"`
}

type vectorForward struct {
	Content      string             `json:"content"`
	Sender       pim.UserID         `json:"sender,omitempty"`
	Conversation pim.ConversationID `json:"conversation,omitempty"`
	Seq          pim.Seq            `json:"seq,omitempty"`
	TimeMS       pim.Millis         `json:"time_ms,omitempty"`
	Unknown      string             `json:"unknown,omitempty"`
}

type vectorReply struct {
	Seq     pim.Seq    `json:"seq"`
	Sender  pim.UserID `json:"sender"`
	Excerpt string     `json:"excerpt"`
	Unknown string     `json:"unknown,omitempty"`
}

type vectorMention struct {
	User    pim.UserID `json:"user,omitempty"`
	Offset  int        `json:"offset"`
	Length  int        `json:"length"`
	Names   string     `json:"names"` // the place in the text
	Unknown string     `json:"unknown,omitempty"`
}

type vectorCustom struct {
	Type    string `json:"type"`
	Data    string `json:"data"`
	Unknown string `json:"unknown,omitempty"`
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func vectorContentOf(c *Content) *vectorContent {
	v := &vectorContent{Text: c.Text, Thread: c.Thread, Unknown: hexOf(c.Unknown)}
	if f := c.Forward; f != nil {
		v.Forward = &vectorForward{hexOf(f.Content), f.Sender, f.Conversation, f.Seq, f.Time, hexOf(f.Unknown)}
	}
	if r := c.Reply; r != nil {
		v.Reply = &vectorReply{r.Seq, r.Sender, r.Excerpt, hexOf(r.Unknown)}
	}
	for _, m := range c.Mentions {
		v.Mentions = append(v.Mentions, vectorMention{m.User, m.Offset, m.Length, c.Text[m.Offset : m.Offset+m.Length], hexOf(m.Unknown)})
	}
	if x := c.Custom; x != nil {
		v.Custom = &vectorCustom{x.Type, hexOf(x.Data), hexOf(x.Unknown)}
	}
	return v
}

// story is what a vector is made from: a content, or bytes as they are.
type story struct {
	name    string
	content Content
	raw     []byte
	cut     []int
}

func (s story) payload() []byte {
	if s.raw != nil {
		return s.raw
	}
	payload, err := s.content.Encode()
	if err != nil {
		panic(s.name + ": " + err.Error())
	}
	return payload
}

// later returns a field that this version does not know.
func later(num protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), value)
}

func envelope(fields ...string) []byte { return append(bytes.Clone(mark), strings.Join(fields, "")...) }

var (
	lunch    = Reply{Seq: 3, Sender: "bob", Excerpt: "Lunch at noon?"}
	greeting = Forward{Content: []byte("Grüße 😀"), Sender: "王小明", Conversation: "g:abc", Seq: 12, Time: 1700000000123}

	vectors = []story{
		{name: "plain text", content: Content{Text: "hi"}},
		{name: "nothing", raw: []byte{}},
		{name: "plain text, cut in a code point", content: Content{Text: "Lunch 😀"}, cut: []int{6, 8, 10}},
		{name: "reply", content: Content{Text: "Yes, at the usual place.", Reply: &lunch}, cut: []int{2, 3, 4, 10, 28, 40}},
		{name: "reply in a thread", content: Content{Text: "Yes", Reply: &lunch, Thread: 1}},
		{name: "reply with an empty excerpt", content: Content{Text: "Yes", Reply: &Reply{Seq: 300, Sender: "bob"}}},
		{name: "mentions, counted in bytes of UTF-8", content: Content{
			Text:     "😀 @王小明, @bob and @all",
			Mentions: []Mention{{User: "王小明", Offset: 5, Length: 10}, {User: "bob", Offset: 17, Length: 4}, {Offset: 26, Length: 4}},
		}},
		{name: "forward with words of the sender's own", content: Content{Text: "Have you seen this?", Forward: &greeting}, cut: []int{30}},
		{name: "forward without words", content: Content{Forward: &greeting}, cut: []int{4, 6, 11, 20}},
		{name: "forward that does not tell where from", content: Content{Forward: &Forward{Content: []byte("psst")}}},
		{name: "forward of a reply", content: Content{Forward: &Forward{Content: story{content: Content{Text: "Yes", Reply: &lunch}}.payload(), Sender: "bob"}}, cut: []int{11, 40}},
		{name: "four forwards", raw: nested(MaxForwards, "deep")},
		{name: "five forwards", raw: nested(MaxForwards+1, "deep")},
		{name: "custom", content: Content{Text: "Poll: lunch?", Custom: &Custom{Type: "application/vnd.example.poll", Data: []byte(`{"id":7}`)}}},
		{name: "custom without a text", content: Content{Custom: &Custom{Type: "application/vnd.example.poll", Data: []byte{1}}}},
		{name: "parts of a later version", content: Content{
			Text: "hi @bob", Unknown: append(later(7, "media"), 9<<3, 1),
			Forward:  &Forward{Content: []byte("x"), Unknown: later(9, "a")},
			Reply:    &Reply{Seq: 3, Sender: "bob", Unknown: later(9, "b")},
			Mentions: []Mention{{User: "bob", Offset: 3, Length: 4, Unknown: later(9, "c")}},
			Custom:   &Custom{Type: "a/b", Unknown: later(9, "d")},
		}},
		{name: "only a part of a later version", content: Content{Unknown: later(8, "encrypted")}},
		{name: "fields in another order", raw: envelope("\x20\x01", "\x0a\x02hi")},
		{name: "an envelope with nothing but text", raw: envelope("\x0a\x02hi")},
		{name: "an envelope with nothing", raw: envelope()},
		{name: "two texts", raw: envelope("\x0a\x01a", "\x0a\x01b")},
		{name: "bytes that are no text", raw: []byte{0xff, 0x02}},
		{name: "half a text", raw: []byte("Lunch \xf0\x9f")},
		{name: "an envelope that ends early", raw: envelope("\x0a\x05hi")},
		{name: "a text that is not UTF-8", raw: envelope("\x0a\x02h\xff")},
		{name: "a mention that cuts a code point", raw: envelope("\x0a\x02é", "\x2a\x04\x10\x01\x18\x01")},
		{name: "a mention beyond the text", raw: envelope("\x0a\x02hi", "\x2a\x04\x10\x02\x18\x01")},
		{name: "a reply to nothing", raw: envelope("\x0a\x02hi", "\x1a\x05\x12\x03bob")},
		{name: "a long excerpt", raw: envelope("\x0a\x02hi", "\x1a\x8a\x02\x08\x03\x12\x03bob\x1a\x81\x02"+strings.Repeat("x", 257))},
	}
)

func vectorOf(s story) vector {
	payload := s.payload()
	v := vector{Name: s.name, Hex: hexOf(payload)}
	v.Preview, _ = Preview(payload, false)
	for _, n := range s.cut {
		text, whole := Preview(payload[:n], true)
		v.Cut = append(v.Cut, vectorCut{n, text, whole})
	}
	c, err := Parse(payload)
	if err != nil {
		v.Error = pim.KindOf(err).String()
		return v
	}
	v.Content = vectorContentOf(&c)
	if again, err := c.Encode(); err != nil || !bytes.Equal(again, payload) {
		hexed := hexOf(again)
		v.Again = &hexed
	}
	return v
}

// The vectors are what this package does; PIM_UPDATE=1 writes them anew. Other SDKs are
// held to them.
func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	var all []vector
	for _, s := range vectors {
		v := vectorOf(s)
		all = append(all, v)
		conformance.Ran(t, "content/"+path, s.name)
		if s.raw == nil && (v.Content == nil || !reflect.DeepEqual(v.Content, vectorContentOf(&s.content))) {
			t.Errorf("%s: read is %+v, %s", s.name, v.Content, v.Error)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("PIM_UPDATE") != "" {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s is not what the package does (%v); PIM_UPDATE=1 writes it", path, err)
	}
}
