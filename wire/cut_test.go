package wire_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"

	"pgregory.net/rapid"
)

func TestCut(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{x(64), x(64)},
		{x(65), x(64)},
		{x(63) + "é", x(63)},
		{x(62) + "é!", x(62) + "é"},
		{x(62) + "王小明", x(62)},
		{x(61) + "王小明", x(61) + "王"},
		{x(61) + "😀", x(61)},
		{x(63) + "e\u0301", x(63)},             // an accent apart
		{x(59) + "🇩🇪", x(59)},                  // half a flag
		{x(56) + "🇩🇪🇫🇷", x(56) + "🇩🇪"},         // and a whole one
		{x(50) + "👩\u200d👩\u200d👧", x(50)},     // a family
		{x(63) + "\r\n", x(63)},                // one line end
		{x(61) + "می\u200cخواهم", x(61) + "م"}, // the joiner belongs to what stands before it
		{"e" + strings.Repeat("\u0301", 99), "e" + strings.Repeat("\u0301", 31)}, // more than half: between code points
		{x(63) + "\xff\xff", x(63) + "\xff"},                                     // no text
		{strings.Repeat("\x80", 99), strings.Repeat("\x80", 64)},
	} {
		if got := wire.Cut(c.text, 64); got != c.want {
			t.Errorf("Cut(%q) = %q, want %q", c.text, got, c.want)
		}
		if got := wire.Cut([]byte(c.text), 64); string(got) != c.want {
			t.Errorf("Cut of the bytes of %q = %q, want %q", c.text, got, c.want)
		}
	}
}

// Of anything, Cut returns a beginning that is not too long, is text if all of it was,
// and is not much shorter than there is room for.
func TestCutOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(rapid.String().Draw(t, "text"))
		if rapid.Bool().Draw(t, "bytes") {
			text = rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		}
		most := rapid.IntRange(0, 40).Draw(t, "most")
		got := wire.Cut(text, most)
		if !bytes.HasPrefix(text, got) || len(got) > most || len(got) < min(len(text), most/2-utf8.UTFMax) {
			t.Errorf("Cut(%q, %d) = %q", text, most, got)
		}
		if utf8.Valid(text) && !utf8.Valid(got) {
			t.Errorf("Cut(%q, %d) = %q, which is no text", text, most, got)
		}
	})
}

func TestBriefEntryEndsWithACharacter(t *testing.T) {
	brief, cut := wire.BriefEntry(&wirepb.Entry{Payload: []byte(strings.Repeat("王", 30))})
	if want := strings.Repeat("王", 21); !cut || string(brief.Payload) != want {
		t.Errorf("cut %v: %q", cut, brief.Payload)
	}
}
