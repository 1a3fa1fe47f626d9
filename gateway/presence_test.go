package gateway

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire/wirepb"
)

// Who looks at a conversation is told who else writes there. A device that says so too often is
// refused.
func TestTyping(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		alice, bob := x.connect(websocket, "alice", "phone"), x.connect(websocket, "bob", "phone")
		for _, p := range []*peer{alice, bob} {
			p.send(&wirepb.PIMLook{Conversations: []string{"d:alice:bob"}})
		}
		x.eventually("both look", func() bool {
			l := &x.gw.Sessions.looks
			l.mu.Lock()
			defer l.mu.Unlock()
			s := l.subjects["d:alice:bob"]
			return s != nil && len(s.lookers) == 2
		})
		bob.send(&wirepb.PIMTyping{Conversation: "d:alice:bob", RequestId: 1})
		if m := expect[*wirepb.PIMTyping](alice); m.Conversation != "d:alice:bob" || fmt.Sprint(m.Users) != "[bob]" {
			t.Errorf("alice is told %v", m)
		}
		for id, c := range map[uint64]string{2: "u:bob", 3: "d:alice:carl", 4: "", 5: "g:other"} {
			bob.send(&wirepb.PIMTyping{Conversation: c, RequestId: id})
			if c == "g:other" {
				continue // nobody looks there
			}
			if m := expect[*wirepb.PIMError](bob); m.RequestId != id || m.Kind != wirepb.ErrorKind_ERROR_KIND_INVALID {
				t.Errorf("bob writes in %q: %v", c, m)
			}
		}
	})
}

// A connection says once in a second that its user writes in a conversation, and in few in that
// time. The answer is the same where nobody looks, or it would tell who looks.
func TestTypingIsRare(t *testing.T) {
	x := newLab(t, nil)
	l := &x.gw.Sessions.looks
	c, other := &conn{gw: x.gw, user: "bob"}, &conn{gw: x.gw, user: "ann"}
	l.working = true // nobody is told
	now := time.Now()
	types := func(id pim.ConversationID, want pim.Kind) {
		t.Helper()
		if err := c.types(id, now); pim.KindOf(err) != want {
			t.Errorf("bob writes in %s: %v", id, err)
		}
	}
	types("g:nobody", pim.KindUnknown)
	types("g:nobody", pim.KindOverloaded)
	now = now.Add(typingEvery)
	var ids []pim.ConversationID
	for i := range maxTyped {
		ids = append(ids, pim.ConversationID(fmt.Sprint("g:", i)))
	}
	l.set(other, append(slices.Clone(ids), "g:more"), 0)
	for _, id := range ids {
		types(id, pim.KindUnknown)
		types(id, pim.KindOverloaded)
	}
	types("g:more", pim.KindOverloaded)
	now = now.Add(typingEvery)
	types("g:more", pim.KindUnknown)
	x.gw.Presence = false
	types("g:1", pim.KindForbidden)
	l.end(other)
	if l.end(c); len(l.looking) > 0 {
		t.Error("a connection that is gone is remembered")
	}
}

// Of those who write in a conversation few are told at a time, together, and each once. Nobody who
// looks away or at something else is told.
func TestTypingIsBounded(t *testing.T) {
	var l looks
	a, b := conn{user: "ann"}, conn{user: "bob"}
	now := time.Now()
	types := func(u pim.UserID, id pim.ConversationID) (start, dropped bool) { return l.types(u, id, now) }
	if start, dropped := types("bob", "g:1"); start || dropped {
		t.Errorf("nobody looks: %v, %v", start, dropped)
	}
	l.set(&a, []pim.ConversationID{"g:1"}, 0)
	l.set(&b, []pim.ConversationID{"g:2"}, 0)
	for i := range 2 * maxTyping {
		u := pim.UserID(fmt.Sprint("u", i/2))
		start, dropped := types(u, "g:1")
		if start != (i == 0) || dropped {
			t.Errorf("%s: %v, %v", u, start, dropped)
		}
	}
	if _, dropped := types("more", "g:1"); !dropped {
		t.Error("one more is not dropped")
	}
	got, _, _ := l.next(now)
	if got.subject == nil || got.id != "g:1" || got.changed || len(got.typing) != maxTyping || !slices.Equal(got.lookers, []*conn{&a}) {
		t.Errorf("told is %+v", got)
	}
	if start, dropped := types("more", "g:1"); start || dropped {
		t.Errorf("while g:1 rests: %v, %v", start, dropped)
	}
	l.set(&a, nil, 0)
	if got, _, done := l.next(now.Add(lookEvery)); got.subject != nil || !done || len(l.subjects) != 1 {
		t.Errorf("told is %+v", got)
	}
	l.ready[1] = make([]*subject, maxReady)
	if _, dropped := types("ann", "g:2"); !dropped {
		t.Error("under load it is not dropped")
	}
}

// Users who may not be named take the places of a group's members once in a minute, and in a direct
// conversation nobody is kept from writing.
func TestStrangersTyping(t *testing.T) {
	x := newLab(t, nil)
	l := &x.gw.Sessions.looks
	p := x.connect(false, "alice", "phone")
	p.send(&wirepb.PIMLook{Conversations: []string{"g:1", "d:alice:off"}})
	x.eventually("alice looks", func() bool { return l.some.Load() == 2 })
	now := time.Now()
	types := func(u pim.UserID, id pim.ConversationID, want bool) {
		t.Helper()
		l.mu.Lock()
		l.working = true // what is told is told below
		l.mu.Unlock()
		if _, dropped := l.types(u, id, now); dropped == want {
			t.Errorf("%s writes in %s, dropped: %t", u, id, dropped)
		}
	}
	tells := func() {
		for now = now.Add(lookEvery); ; {
			got, _, _ := l.next(now)
			if got.subject == nil {
				return
			}
			x.gw.tell(got)
		}
	}
	types("off", "g:1", true)
	types("bob", "g:1", true)
	types("off", "d:alice:off", true)
	tells()
	if m := expect[*wirepb.PIMTyping](p); m.Conversation != "g:1" || fmt.Sprint(m.Users) != "[bob]" {
		t.Errorf("alice is told %v", m)
	}
	types("off", "g:1", false)
	types("off", "d:alice:off", true)
	types("bob", "g:1", true)
	tells()
	now = now.Add(silentLasts)
	types("off", "g:1", true)
	var many []pim.UserID
	for i := range 2 * maxSilent {
		many = append(many, pim.UserID(fmt.Sprint("u", i)))
	}
	l.silence(l.subjects["g:1"], many, now)
	if n := len(l.subjects["g:1"].silent); n != maxSilent {
		t.Errorf("%d users are remembered", n)
	}
}

// Who looks at a user is told whether the user is connected, at first and whenever that changes.
func TestPresence(t *testing.T) {
	both(t, func(t *testing.T, websocket bool) {
		x := newLab(t, nil)
		alice := x.connect(websocket, "alice", "phone")
		for id, look := range []*wirepb.PIMLook{
			{Users: []string{"alice"}}, {Users: []string{""}}, {Conversations: []string{"d:bob:carl"}}, {Conversations: []string{"u:bob"}},
		} {
			look.RequestId = uint64(10 + id)
			alice.send(look)
			if m := expect[*wirepb.PIMError](alice); m.RequestId != look.RequestId || m.Kind != wirepb.ErrorKind_ERROR_KIND_FORBIDDEN {
				t.Errorf("%v: alice is told %v", look, m)
			}
		}
		alice.send(&wirepb.PIMLook{Users: []string{"bob", "alice", "", "bob"}})
		if m := expect[*wirepb.PIMPresence](alice); m.User != "bob" || m.Online || m.SeenMs != 77 {
			t.Errorf("alice is told %v", m)
		}
		bob := x.connect(websocket, "bob", "phone")
		if m := expect[*wirepb.PIMPresence](alice); !m.Online || m.SeenMs != 0 {
			t.Errorf("bob has come, alice is told %v", m)
		}
		second := x.connect(websocket, "bob", "laptop")
		x.lately.Store(99)
		bob.nc.Close()
		second.nc.Close()
		if m := expect[*wirepb.PIMPresence](alice); m.Online || m.SeenMs != 99 {
			t.Errorf("bob is gone, alice is told %v", m)
		}
		off := x.connect(websocket, "off", "phone")
		off.send(&wirepb.PIMLook{Users: []string{"alice"}})
		if m := expect[*wirepb.PIMPresence](off); m.User != "alice" || m.Online || m.SeenMs != 0 {
			t.Errorf("who may not look is told %v", m)
		}
		x.eventually("the look has ended", func() bool {
			l := &x.gw.Sessions.looks
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.subjects["u:alice"] == nil || len(l.subjects["u:alice"].lookers) == 0
		})
		alice.send(&wirepb.PIMLook{Users: make([]string, maxLooks+1), Conversations: many(maxLooks + 1), RequestId: 2})
		if m := expect[*wirepb.PIMError](alice); m.RequestId != 2 || m.Kind != wirepb.ErrorKind_ERROR_KIND_TOO_LARGE {
			t.Errorf("alice looks at too much: %v", m)
		}
	})
}

func many(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("g:", i))
	}
	return names
}

// With presence switched off, looks at users and typing are refused, and looks at conversations go
// on.
func TestWithoutPresence(t *testing.T) {
	x := newLab(t, nil)
	x.gw.Presence = false
	alice := x.connect(false, "alice", "phone")
	alice.send(&wirepb.PIMLook{Users: []string{"bob"}, Conversations: []string{"d:alice:bob"}, RequestId: 1})
	if m := expect[*wirepb.PIMError](alice); m.RequestId != 1 || m.Kind != wirepb.ErrorKind_ERROR_KIND_FORBIDDEN {
		t.Errorf("alice is told %v", m)
	}
	x.read.Store(3)
	x.gw.Sessions.Acknowledged("d:alice:bob")
	if m := expect[*wirepb.PIMReceipt](alice); m.Read != 3 {
		t.Errorf("alice is told %v", m)
	}
	alice.send(&wirepb.PIMTyping{Conversation: "d:alice:bob", RequestId: 2})
	if m := expect[*wirepb.PIMError](alice); m.RequestId != 2 || m.Kind != wirepb.ErrorKind_ERROR_KIND_FORBIDDEN {
		t.Errorf("alice is told %v", m)
	}
}
