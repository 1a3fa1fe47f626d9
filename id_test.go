package pim_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

func TestUserIDs(t *testing.T) {
	for _, good := range []pim.UserID{"a", "alice@example.org", "[]\\`_^{|}-", "zcat[1]", "Ünïcödé", "小明", "topi`_", "bucko|office"} {
		if err := good.Validate(); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
	for _, bad := range []pim.UserID{"", "a b", "a\tb", "a/b", "a:b", "a\x00b", "\u0085", "\u3000", "\xff", pim.UserID(strings.Repeat("x", 65))} {
		if err := bad.Validate(); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func userID() *rapid.Generator[pim.UserID] {
	return rapid.Custom(func(t *rapid.T) pim.UserID {
		return pim.UserID(rapid.StringMatching("[a-zA-Z0-9\\[\\]\\\\`_^{|}.@-]{1,20}").Draw(t, "user"))
	})
}

// A direct conversation has one ID, whichever of its two users is named first, and
// names nobody else.
func TestDirect(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := userID().Draw(t, "a"), userID().Draw(t, "b")
		c := pim.Direct(a, b)
		if c != pim.Direct(b, a) {
			t.Fatal("it depends on who is named first")
		}
		if err := c.Validate(); err != nil || c.IsGroup() {
			t.Fatalf("%s: %v", c, err)
		}
		x, y, ok := c.DirectUsers()
		if !ok || pim.Direct(x, y) != c || x > y || (x != a && x != b) || (y != a && y != b) {
			t.Fatalf("%s is of %s and %s", c, x, y)
		}
	})
}

func TestConversationIDs(t *testing.T) {
	for _, bad := range []pim.ConversationID{"", "x", "d:", "d:a", "d:b:a", "d:a:b:c", "d::b", "g:", "g:a b", "d:a:b/c"} {
		if err := bad.Validate(); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNewGroup(t *testing.T) {
	id := pim.NewClientMessageID(time.Now())
	g := pim.NewGroup("alice", id)
	if g != pim.NewGroup("alice", id) {
		t.Error("a resent creation makes another group")
	}
	if g == pim.NewGroup("bob", id) || g == pim.NewGroup("alice", pim.ClientMessageID{1}) {
		t.Error("two creations make one group")
	}
	if err := g.Validate(); err != nil || !g.IsGroup() {
		t.Errorf("%s: %v", g, err)
	}
	// sdk/ts/test/pim.test.ts has the same.
	known := pim.ClientMessageID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	if g := pim.NewGroup("alice", known); g != "g:nfxvtxxrjk75xthkylnwzwb5" {
		t.Errorf("another SDK names this group otherwise: %s", g)
	}
}

func TestClientMessageIDs(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	seen := map[pim.ClientMessageID]bool{}
	for range 1000 {
		id := pim.NewClientMessageID(now)
		if seen[id] {
			t.Fatal("made twice")
		}
		seen[id] = true
		if id[6]>>4 != 7 || id[8]>>6 != 2 {
			t.Fatalf("%s is not a UUIDv7", id)
		}
		ms := int64(id[0])<<40 | int64(id[1])<<32 | int64(id[2])<<24 | int64(id[3])<<16 | int64(id[4])<<8 | int64(id[5])
		if ms != now.UnixMilli() {
			t.Fatalf("%s carries the time %d", id, ms)
		}
		back, err := pim.ParseClientMessageID(id.String())
		if err != nil || back != id {
			t.Fatalf("%s came back as %s, %v", id, back, err)
		}
	}
	for _, bad := range []string{"", "x", "0123", strings.Repeat("0", 34)} {
		if _, err := pim.ParseClientMessageID(bad); pim.KindOf(err) != pim.KindInvalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("while testing: %w", pim.Errorf(pim.KindTooLarge, "7 is too much: %w", cause))
	if pim.KindOf(err) != pim.KindTooLarge || !errors.Is(err, cause) {
		t.Errorf("%v is of kind %v", err, pim.KindOf(err))
	}
	if pim.KindOf(cause) != pim.KindUnknown || pim.KindOf(nil) != pim.KindUnknown {
		t.Error("a foreign error has a kind")
	}
	names := map[string]pim.Kind{}
	for k := pim.KindUnknown; !strings.HasPrefix(k.String(), "kind_"); k++ {
		if other, twice := names[k.String()]; twice || k.String() == "" {
			t.Errorf("kinds %d and %d are both called %q", k, other, k)
		}
		names[k.String()] = k
	}
	if len(names) != 18 {
		t.Errorf("%d kinds have names", len(names))
	}
}

func TestExcludes(t *testing.T) {
	for _, test := range []struct {
		c    pim.ConversationID
		u    pim.UserID
		want bool
	}{
		{"d:ann:bob", "ann", false},
		{"d:ann:bob", "bob", false},
		{"d:ann:bob", "eve", true},
		{"d:ann:bob", "", true},
		{"d:ann", "ann", true},
		{"d:ann:ann", "ann", false},
		{"u:ann", "ann", false},
		{"u:ann", "an", true},
		{"u:ann", "annn", true},
		{"g:x", "eve", false},
		{"", "", true},
		{"x:ann", "ann", true},
		{"ann", "ann", true},
	} {
		if got := test.c.Excludes(test.u); got != test.want {
			t.Errorf("%q excludes %q: %v", test.c, test.u, got)
		}
	}
}
