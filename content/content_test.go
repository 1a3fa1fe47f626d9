package content

import (
	"bytes"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pim-im/pim"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"
)

// nested returns a text in n forwards.
func nested(n int, text string) []byte {
	payload := []byte(text)
	for range n {
		forward := protowire.AppendBytes(protowire.AppendTag(nil, contentField, protowire.BytesType), payload)
		payload = protowire.AppendBytes(append(bytes.Clone(mark), forwardField<<3|2), forward)
	}
	return payload
}

func TestWhatEncodeRefuses(t *testing.T) {
	long := strings.Repeat("x", pim.MaxPayload)
	many := make([]Mention, MaxMentions+1)
	for i := range many {
		many[i] = Mention{Offset: i, Length: 1}
	}
	reply := func(r Reply) Content { return Content{Text: "x", Reply: &r} }
	mention := func(m ...Mention) Content { return Content{Text: "é😀x", Mentions: m} }
	forward := func(f Forward) Content { return Content{Forward: &f} }
	custom := func(name string) Content { return Content{Custom: &Custom{Type: name}} }
	for name, c := range map[string]struct {
		content Content
		kind    pim.Kind
	}{
		"text that is not UTF-8":     {Content{Text: "\xff\x01"}, pim.KindInvalid},
		"long text":                  {Content{Text: long + "x"}, pim.KindTooLarge},
		"long text in an envelope":   {Content{Text: long, Thread: 1}, pim.KindTooLarge},
		"reply to nothing":           {reply(Reply{Sender: "bob"}), pim.KindInvalid},
		"reply to nobody":            {reply(Reply{Seq: 1}), pim.KindInvalid},
		"long excerpt":               {reply(Reply{Seq: 1, Sender: "bob", Excerpt: long[:MaxExcerpt+1]}), pim.KindTooLarge},
		"half an excerpt":            {reply(Reply{Seq: 1, Sender: "bob", Excerpt: "\xc3"}), pim.KindInvalid},
		"empty mention":              {mention(Mention{User: "bob"}), pim.KindInvalid},
		"mention beyond the text":    {mention(Mention{User: "bob", Offset: 6, Length: 2}), pim.KindInvalid},
		"mention before the text":    {mention(Mention{User: "bob", Offset: -1, Length: 1}), pim.KindInvalid},
		"endless mention":            {mention(Mention{User: "bob", Offset: 2, Length: 1<<63 - 1}), pim.KindInvalid},
		"mention begins in a rune":   {mention(Mention{User: "bob", Offset: 1, Length: 1}), pim.KindInvalid},
		"mention ends in a rune":     {mention(Mention{User: "bob", Offset: 2, Length: 2}), pim.KindInvalid},
		"mentions over each other":   {mention(Mention{User: "bob", Length: 6}, Mention{Offset: 2, Length: 4}), pim.KindInvalid},
		"mentions in no order":       {mention(Mention{Offset: 2, Length: 4}, Mention{User: "bob", Length: 2}), pim.KindInvalid},
		"mention of no user ID":      {mention(Mention{User: "b:b", Length: 2}), pim.KindInvalid},
		"many mentions":              {Content{Text: long[:400], Mentions: many}, pim.KindTooLarge},
		"forward of no text":         {forward(Forward{Content: []byte{0xff}}), pim.KindInvalid},
		"forward of no user's":       {forward(Forward{Sender: "b:b"}), pim.KindInvalid},
		"forward of no conversation": {forward(Forward{Conversation: "b"}), pim.KindInvalid},
		"forward of five":            {forward(Forward{Content: nested(MaxForwards, "x")}), pim.KindTooLarge},
		"type":                       {custom("poll"), pim.KindInvalid},
		"type of two":                {custom("a/b/c"), pim.KindInvalid},
		"type with a space":          {custom("a/b c"), pim.KindInvalid},
		"empty type":                 {custom("/"), pim.KindInvalid},
		"long type":                  {custom("a/" + long[:MaxType]), pim.KindTooLarge},
	} {
		got, err := c.content.Append([]byte("x"))
		if pim.KindOf(err) != c.kind || string(got) != "x" {
			t.Errorf("%s: %q, %v, want %v", name, got, err, c.kind)
		}
	}
}

func TestWhatParseRefuses(t *testing.T) {
	payload := func(fields ...byte) []byte { return append(bytes.Clone(mark), fields...) }
	for name, c := range map[string]struct {
		payload []byte
		kind    pim.Kind
	}{
		"no UTF-8":               {[]byte{0xff}, pim.KindInvalid},
		"another version":        {[]byte{0xff, 2}, pim.KindInvalid},
		"no protobuf":            {payload(0x0a, 2, 'x'), pim.KindInvalid},
		"a number for a text":    {payload(textField<<3, 1), pim.KindInvalid},
		"two texts":              {payload(0x0a, 1, 'x', 0x0a, 1, 'y'), pim.KindInvalid},
		"two contents":           {payload(0x12, 6, 0x0a, 1, 'x', 0x0a, 1, 'y'), pim.KindInvalid},
		"half a forward":         {payload(0x12, 2, 0x0a, 1), pim.KindInvalid},
		"an empty reply":         {payload(3<<3|2, 0), pim.KindInvalid},
		"many mentions":          {payload(bytes.Repeat([]byte{mentionsField<<3 | 2, 0}, 30_000)...), pim.KindTooLarge},
		"five forwards":          {nested(MaxForwards+1, "x"), pim.KindTooLarge},
		"forwards without end":   {nested(10_000, ""), pim.KindTooLarge},
		"no UTF-8 in a forward":  {nested(1, "\xc3"), pim.KindInvalid},
		"more than fits":         {bytes.Repeat([]byte("x"), pim.MaxPayload+1), pim.KindTooLarge},
		"a group without an end": {payload(bytes.Repeat([]byte{9<<3 | 3}, 30_000)...), pim.KindInvalid},
	} {
		if got, err := Parse(c.payload); pim.KindOf(err) != c.kind {
			t.Errorf("%s: %+v, %v, want %v", name, got, err, c.kind)
		}
	}
	if c, err := Parse(nested(MaxForwards, "x")); err != nil || c.Forward == nil {
		t.Errorf("four forwards: %+v, %v", c, err)
	}
}

// What somebody sends costs little more memory than its bytes.
func TestParseDoesNotAmplify(t *testing.T) {
	for name, payload := range map[string][]byte{
		"mentions":          append(bytes.Clone(mark), bytes.Repeat([]byte{mentionsField<<3 | 2, 0}, 32_000)...),
		"forwards":          nested(8_000, ""),
		"mentions below":    nested(3, string(mark)+strings.Repeat("\x2a\x00", 32_000)),
		"parts of nobody's": append(bytes.Clone(mark), bytes.Repeat([]byte{9<<3 | 2, 0}, 32_000)...),
		"a text below":      nested(MaxForwards, strings.Repeat("x", 65_000)),
	} {
		const times = 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			_, _ = Parse(payload)
			Preview(payload, false)
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / times; each > uint64(8*len(payload)) {
			t.Errorf("%s: %d bytes become %d", name, len(payload), each)
		}
	}
}

// drawContent returns a Content that is right, with parts of later versions.
func drawContent(t *rapid.T, forwards int) Content {
	user := rapid.StringMatching(`[a-z]{1,8}`)
	unknown := func() []byte {
		var b []byte
		for range rapid.IntRange(0, 2).Draw(t, "unknown parts") {
			b = protowire.AppendTag(b, protowire.Number(rapid.IntRange(9, 99).Draw(t, "field")), protowire.BytesType)
			b = protowire.AppendBytes(b, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "value"))
		}
		return b
	}
	some := func(what string) bool { return rapid.Bool().Draw(t, what) }
	c := Content{Text: rapid.String().Draw(t, "text"), Unknown: unknown()}
	if some("thread") {
		c.Thread = pim.Seq(rapid.Uint64().Draw(t, "root"))
	}
	if some("reply") {
		c.Reply = &Reply{
			Seq: pim.Seq(rapid.Uint64Min(1).Draw(t, "seq")), Sender: pim.UserID(user.Draw(t, "sender")),
			Excerpt: cut(rapid.String().Draw(t, "excerpt"), MaxExcerpt), Unknown: unknown(),
		}
	}
	if some("custom") {
		c.Custom = &Custom{Type: "a/" + user.Draw(t, "type"), Data: rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "data"), Unknown: unknown()}
	}
	for i, r := range c.Text {
		if some("mention") {
			c.Mentions = append(c.Mentions, Mention{User: pim.UserID(user.Draw(t, "user")), Offset: i, Length: utf8.RuneLen(r), Unknown: unknown()})
		}
	}
	if forwards < MaxForwards && some("forward") {
		inner := drawContent(t, forwards+1)
		payload, err := inner.Encode()
		if err != nil {
			t.Fatal(err)
		}
		c.Forward = &Forward{
			Content: payload, Sender: pim.UserID(user.Draw(t, "sender")), Conversation: "d:a:b", Seq: 7,
			Time: pim.Millis(rapid.Int64().Draw(t, "time")), Unknown: unknown(),
		}
	}
	return c
}

// What is encoded and read again is the same, parts of later versions included; and the
// preview of any beginning of it is the beginning of the whole's preview.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawContent(t, 0)
		payload, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(payload)
		if err != nil || !same(got, c) {
			t.Fatalf("%+v, %v, want %+v", got, err, c)
		}
		again, err := got.Encode()
		if err != nil || !bytes.Equal(again, payload) {
			t.Fatalf("%x, %v, want %x", again, err, payload)
		}
		text, whole := Preview(payload, false)
		if !whole || c.Text != "" && text != c.Text {
			t.Fatalf("previewed is %q, %v", text, whole)
		}
		n := rapid.IntRange(0, len(payload)).Draw(t, "cut")
		part, all := Preview(payload[:n], true)
		if !strings.HasPrefix(text, part) || all && part != text {
			t.Fatalf("the preview of %d bytes is %q, %v; of all %q", n, part, all, text)
		}
	})
}

// same compares two Contents; nil and empty slices are the same.
func same(a, b Content) bool {
	clean := func(c Content) Content {
		none := func(b *[]byte) {
			if len(*b) == 0 {
				*b = nil
			}
		}
		none(&c.Unknown)
		if c.Forward != nil {
			f := *c.Forward
			none(&f.Unknown)
			none(&f.Content)
			c.Forward = &f
		}
		if c.Reply != nil {
			r := *c.Reply
			none(&r.Unknown)
			c.Reply = &r
		}
		if c.Custom != nil {
			x := *c.Custom
			none(&x.Unknown)
			none(&x.Data)
			c.Custom = &x
		}
		c.Mentions = append([]Mention(nil), c.Mentions...)
		for i := range c.Mentions {
			none(&c.Mentions[i].Unknown)
		}
		return c
	}
	return reflect.DeepEqual(clean(a), clean(b))
}

func TestReplyToAndForwardOf(t *testing.T) {
	e := &pim.Entry{
		Conversation: "d:alice:bob", Seq: 4, Sender: "bob", Server: 1700000000150, Ahead: 50,
		Payload: []byte(strings.Repeat("王", 100)),
	}
	if r := ReplyTo(e); r.Seq != 4 || r.Sender != "bob" || r.Excerpt != strings.Repeat("王", 85) {
		t.Errorf("%+v", r)
	}
	answer := Content{Text: "yes", Reply: ReplyTo(e)}
	payload, err := answer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if r := ReplyTo(&pim.Entry{Seq: 5, Sender: "alice", Payload: payload}); r.Excerpt != "yes" {
		t.Errorf("a reply to a reply: %+v", r)
	}
	f := ForwardOf(e)
	e.Payload[0] = 'x'
	if f.Conversation != "d:alice:bob" || f.Seq != 4 || f.Sender != "bob" || f.Time != 1700000000100 || string(f.Content) != strings.Repeat("王", 100) {
		t.Errorf("%+v", f)
	}
	if got, whole := Preview(must(t, Content{Forward: f}), false); got != strings.Repeat("王", 100) || !whole {
		t.Errorf("previewed is %q, %v", got, whole)
	}
}

func must(t *testing.T, c Content) []byte {
	t.Helper()
	payload, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func TestWholeRunes(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "é": "é", "\xc3": "", "a\xf0\x9f\x98": "a", "a\x80\x80\x80\x80": "a\x80\x80\x80\x80", "\xff": "\xff",
	} {
		if got := string(wholeRunes([]byte(in))); got != want {
			t.Errorf("wholeRunes(%q) = %q, want %q", in, got, want)
		}
	}
}

// Any bytes are refused with a typed error, or mean the same when they are encoded again.
func FuzzParse(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.payload())
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		text, _ := Preview(payload, false)
		Preview(payload, true)
		c, err := Parse(payload)
		if err != nil {
			if k := pim.KindOf(err); k != pim.KindInvalid && k != pim.KindTooLarge {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if c.Text != "" && c.Text != text {
			t.Fatalf("the text is %q, previewed is %q", c.Text, text)
		}
		again, err := c.Encode()
		if pim.KindOf(err) == pim.KindTooLarge {
			return // a later version's parts may be written longer than it wrote them
		}
		if err != nil {
			t.Fatalf("%+v is not encoded: %v", c, err)
		}
		if back, err := Parse(again); err != nil || !same(back, c) {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
	})
}
