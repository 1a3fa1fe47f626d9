package username_test

import (
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/username"

	"golang.org/x/text/unicode/norm"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{
		"alice", "Alice", "alice@example.org", "[al]\\`_^{|}-", "0190d6c2-7c4e-7a3c-8b1e-0123456789ab", "+49-30-1234",
		"Ünïcödé", "\u00e9", "小明", "サトウ", "김철수", "Ольга", "Ελένη", "สมชาย", "अमित", "נועם", "محمد", "علی",
		"می\u200cخواهم",  // Persian needs U+200C between letters that would join
		"क\u094d\u200dष", // and Devanagari U+200D after a virama
		"col·lecció",     // Catalan has U+00B7 between two l
	} {
		if err := username.Check("user ID", good); err != nil {
			t.Errorf("%+q is refused: %v", good, err)
		}
	}
	for _, c := range []struct{ bad, want string }{
		{"e\u0301", `another spelling of "\u00e9"`},
		{"\u212bngstrom", `another spelling of "\u00c5ngstrom"`}, // the sign for ångström
		{"\uff41lice", `another spelling of "alice"`},            // full width
		{"\u1100\u1161", `another spelling of "\uac00"`},         // jamo of a Hangul syllable
		{"al\u200bice", "U+200B is not allowed"},
		{"al\u202eice", "U+202E is not allowed"},
		{"\ufeffalice", "U+FEFF is not allowed"},
		{"al\u00adice", "U+00AD is not allowed"},
		{"al\u2060ice", "U+2060 is not allowed"},
		{"al\u034fice", "U+034F is not allowed"},
		{"al\u2066ice\u2069", "U+2066 is not allowed"},
		{"al\u200eice", "U+200E is not allowed"},
		{"alice\ufe0f", "U+FE0F is not allowed"},
		{"alice\U000e0041", "U+E0041 is not allowed"},
		{"al\u3164ice", "U+3164 is not allowed"},
		{"al\u115fice", "U+115F is not allowed"},
		{"al\u061cice", "U+061C is not allowed"},
		{"al\u180eice", "U+180E is not allowed"},
		{"\ue000", "U+E000 is not allowed"},
		{"\ufffe", "U+FFFE is not allowed"},
		{"\ufffd", "U+FFFD is not allowed"},
		{"\U000e0fff", "U+E0FFF is not allowed"},
		{"🙂", "U+1F642 is not allowed"},
		{"\u2460", "U+2460 is not allowed"}, // a 1 in a circle
		{"\ufb01sh", "U+FB01 is not allowed"},
		{"al\u200cice", "not allowed in this place"},
		{"al\u200dice", "not allowed in this place"},
		{"alice\u05d0", "not allowed in this place"}, // Hebrew behind Latin
		{"1\u05d0", "not allowed in this place"},
	} {
		err := username.Check("user ID", c.bad)
		if pim.KindOf(err) != pim.KindInvalid || !strings.HasPrefix(err.Error(), "user ID ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+q: %v, want invalid with %q", c.bad, err, c.want)
			continue
		}
		for _, r := range err.Error() {
			if r >= 0x80 {
				t.Errorf("%+q: the error %q shows %U as it is", c.bad, err, r)
			}
		}
		if err := pim.UserID(c.bad).Validate(); err != nil {
			t.Errorf("%+q: who has this ID already cannot use it any more: %v", c.bad, err)
		}
	}
}

// FuzzCheck checks that an accepted name is in NFC, and so is no second spelling of
// another name, and that every ASCII name is accepted.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"alice", "é", "e\u0301", "\uff41", "می\u200cخواهم", "\u202e", "🙂", "\u00b7l", "l\u00b7l"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if pim.UserID(id).Validate() != nil {
			return
		}
		err := username.Check("user ID", id)
		if err != nil && pim.KindOf(err) != pim.KindInvalid {
			t.Fatalf("%+q: %v", id, err)
		}
		if err == nil && !norm.NFC.IsNormalString(id) {
			t.Fatalf("%+q is taken", id)
		}
		if ascii := strings.IndexFunc(id, func(r rune) bool { return r >= 0x80 }) < 0; ascii && err != nil {
			t.Fatalf("%+q: %v", id, err)
		}
	})
}

// Most names are ASCII, so their check must cost nothing.
func TestCheckASCIIDoesNotAllocate(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _ = username.Check("user ID", "alice@example.org") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
