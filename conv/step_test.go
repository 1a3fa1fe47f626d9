package conv

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
	"pgregory.net/rapid"
)

func id(n uint64) pim.ClientMessageID {
	return pim.ClientMessageID{0: byte(n >> 24), 1: byte(n >> 16), 2: byte(n >> 8), 3: byte(n), 15: 1}
}

func message(c pim.ConversationID, from pim.UserID, n uint64, local pim.Millis) *Request {
	return &Request{Conversation: c, Kind: pim.EntryMessage, Sender: from, Device: "d", ClientID: id(n), Local: local, Payload: []byte("x")}
}

// For the worked cases of the display order, step gives the results that are in
// testdata/display-order.json.
func TestStepAnchorsWorkedCases(t *testing.T) {
	data, err := os.ReadFile("../testdata/display-order.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name     string
			Messages []struct {
				ID, Sender    string
				Local, Server pim.Millis
			}
			Anchors map[string]pim.Seq
			Order   []string
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			c := newConversation("g:x", pim.MaxGroupMembers)
			c.change(&pim.Entry{Kind: pim.EntryCreate, Seq: 1, Members: []pim.UserID{"s", "r", "a", "b"}})
			var shown []pim.Entry
			names := map[pim.Seq]string{}
			for i, m := range v.Messages {
				o := c.step(message("g:x", pim.UserID(m.Sender), uint64(i+1), m.Local), findings{}, m.Server)
				if o.err != nil {
					t.Fatal(o.err)
				}
				if want := v.Anchors[m.ID]; o.entry.Anchor != want {
					t.Errorf("anchor of %s is %d, want %d", m.ID, o.entry.Anchor, want)
				}
				names[o.entry.Seq] = m.ID
				shown = append(shown, o.entry)
			}
			slices.SortFunc(shown, func(a, b pim.Entry) int { return a.Place().Compare(b.Place()) })
			for i, e := range shown {
				if names[e.Seq] != v.Order[i] {
					t.Errorf("place %d shows %s, want %s", i, names[e.Seq], v.Order[i])
				}
			}
		})
	}
}

func TestStepRefuses(t *testing.T) {
	group := func() *conversation {
		c := newConversation("g:x", 4)
		c.step(&Request{Conversation: "g:x", Kind: pim.EntryCreate, Sender: "owner", ClientID: id(1), Members: []pim.UserID{"ann", "bob"}}, findings{}, 1)
		return c
	}
	change := func(kind pim.EntryKind, by pim.UserID, members ...pim.UserID) *Request {
		return &Request{Conversation: "g:x", Kind: kind, Sender: by, ClientID: id(2), Members: members}
	}
	for _, test := range []struct {
		name string
		c    *conversation
		r    *Request
		want pim.Kind
	}{
		{"stranger in a group", group(), message("g:x", "eve", 2, 1), pim.KindNotMember},
		{"message to a group that is not there", newConversation("g:y", 4), message("g:y", "ann", 2, 1), pim.KindNotMember},
		{"group made twice", group(), change(pim.EntryCreate, "owner"), pim.KindConflict},
		{"stranger adds", group(), change(pim.EntryJoin, "eve", "eve"), pim.KindNotMember},
		{"added twice", group(), change(pim.EntryJoin, "ann", "bob"), pim.KindInvalid},
		{"too many", group(), change(pim.EntryJoin, "ann", "c", "d"), pim.KindTooLarge},
		{"member removes another", group(), change(pim.EntryLeave, "ann", "bob"), pim.KindForbidden},
		{"owner removes a stranger", group(), change(pim.EntryLeave, "owner", "eve"), pim.KindInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.c.last
			o := test.c.step(test.r, findings{}, 5)
			if got := pim.KindOf(o.err); got != test.want {
				t.Errorf("refused with %v (%v), want %v", got, o.err, test.want)
			}
			if test.c.last != before {
				t.Error("a refused request changed the log")
			}
		})
	}
}

func TestMembershipFollowsTheLog(t *testing.T) {
	c := newConversation("g:x", 10)
	n := uint64(0)
	do := func(kind pim.EntryKind, by pim.UserID, members ...pim.UserID) pim.Seq {
		n++
		o := c.step(&Request{Conversation: "g:x", Kind: kind, Sender: by, ClientID: id(n), Members: members}, findings{}, pim.Millis(n))
		if o.err != nil {
			t.Fatal(o.err)
		}
		return o.entry.Seq
	}
	do(pim.EntryCreate, "ann", "bob")
	left := do(pim.EntryLeave, "bob", "bob")
	do(pim.EntryMessage, "ann")
	back := do(pim.EntryJoin, "ann", "bob", "bob", "cat")
	for seq, want := range map[pim.Seq]bool{1: true, left: true, left + 1: false, back: true, back + 9: true} {
		if got := c.members["bob"].Reads(seq); got != want {
			t.Errorf("bob reads seq %d: %v, want %v", seq, got, want)
		}
	}
	if !slices.Equal(c.present, []pim.UserID{"ann", "bob", "cat"}) {
		t.Errorf("present are %v", c.present)
	}
	if c.owner() != "ann" {
		t.Error("the owner is who made the group")
	}
	if c.count != 1 {
		t.Errorf("%d counting messages, want 1: membership does not count", c.count)
	}
}

// Whatever requests come, in whatever order and however often: seqs are dense, server times
// do not fall, a client message ID has one entry, and only messages count.
func TestStepInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newConversation("d:ann:bob", 2)
		firsts := map[pim.ClientMessageID]pim.Seq{}
		var last pim.Entry
		clock := pim.Millis(1_000_000)
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			clock += pim.Millis(rapid.Int64Range(-2000, 2000).Draw(t, "clock"))
			n := rapid.Uint64Range(1, 30).Draw(t, "id")
			sender := rapid.SampledFrom([]pim.UserID{"ann", "bob"}).Draw(t, "sender")
			local := clock + pim.Millis(rapid.Int64Range(-300_000, 5000).Draw(t, "local"))
			o := c.step(message("d:ann:bob", sender, n, local), findings{}, clock)
			first, known := firsts[id(n)]
			switch {
			case o.err != nil:
				t.Fatal(o.err)
			case known && o.first != first:
				t.Fatalf("ID %d got seq %d first and is answered with %d", n, first, o.first)
			case known:
				continue
			case o.first != 0:
				t.Fatalf("new ID %d answered as a duplicate of %d", n, o.first)
			case o.entry.Seq != last.Seq+1 || o.entry.Server < last.Server || o.entry.Count != last.Count+1:
				t.Fatalf("after %+v came %+v", last, o.entry)
			case o.entry.Anchor > o.entry.Seq || o.entry.Anchor == 0:
				t.Fatalf("anchor %d of seq %d", o.entry.Anchor, o.entry.Seq)
			}
			last = o.entry
			firsts[id(n)] = last.Seq
		}
	})
}

func BenchmarkStep(b *testing.B) {
	b.Run("free", func(b *testing.B) { benchmarkStep(b, nil) })
	b.Run("bounded", func(b *testing.B) {
		benchmarkStep(b, newDeeds(limit.Deed{Groups: 100, Members: 10_000, Strangers: 300}, 1<<40, nil))
	})
}

func benchmarkStep(b *testing.B, bounds *deeds) {
	c := newConversation("d:ann:bob", 2)
	c.deeds = bounds
	c.last = 1 // the first message counts as a deed
	at := time.Now()
	now := pim.MillisOf(at)
	for i := range b.N {
		c.step(message("d:ann:bob", "ann", uint64(i+1), now+pim.Millis(i/10)), findings{view: view{at: at}}, now+pim.Millis(i/10))
		if i%32 == 0 { // a commit
			c.ids.MoveToIndex(now + pim.Millis(i/10))
		}
	}
}

// The bytes of a user's contacts are bounded. A command that makes room is always accepted.
func TestSettingBytes(t *testing.T) {
	c := newConversation(pim.Own("alice"), 10)
	n := uint64(0)
	set := func(subject string, bytes int) pim.Kind {
		n++
		cmd := &pim.Command{Kind: pim.CommandContact, Subject: subject, Value: make([]byte, bytes), Removed: bytes == 0}
		r := &Request{Conversation: c.id, Kind: pim.EntryCommand, Sender: "alice", Device: "d", ClientID: id(n), command: cmd}
		return pim.KindOf(c.step(r, findings{}, 1).err)
	}
	for i := range maxSettingBytes / pim.MaxCommandValue {
		if kind := set(fmt.Sprint("u", i), pim.MaxCommandValue); kind != 0 {
			t.Fatalf("contact %d: %v", i, kind)
		}
	}
	for i, step := range []struct {
		subject string
		bytes   int
		want    pim.Kind
	}{
		{"one-more", 1, pim.KindTooLarge},
		{"without-a-value", 0, 0},
		{"u0", pim.MaxCommandValue, 0},
		{"u0", 10, 0},
		{"one-more", pim.MaxCommandValue - 10, 0},
		{"u0", 11, pim.KindTooLarge},
		{"u1", 0, 0},
		{"u0", 11, 0},
	} {
		if kind := set(step.subject, step.bytes); kind != step.want {
			t.Errorf("step %d: %v, want %v", i, kind, step.want)
		}
	}
}

// The number of users who were ever members of a group is bounded. When it is reached, a
// former member may still come back.
func TestMembersEver(t *testing.T) {
	c := newConversation("g:x", pim.MaxGroupMembers)
	n := uint64(0)
	do := func(kind pim.EntryKind, members ...pim.UserID) pim.Kind {
		n++
		return pim.KindOf(c.step(&Request{Conversation: "g:x", Kind: kind, Sender: "owner", ClientID: id(n), Members: members}, findings{}, 1).err)
	}
	do(pim.EntryCreate)
	for len(c.members)+1000 <= maxEver {
		var crowd []pim.UserID
		for range 1000 {
			crowd = append(crowd, pim.UserID(fmt.Sprint("u", len(crowd)+len(c.members))))
		}
		if join, leave := do(pim.EntryJoin, crowd...), do(pim.EntryLeave, crowd...); join != 0 || leave != 0 {
			t.Fatalf("with %d: %v, %v", len(c.members), join, leave)
		}
	}
	var rest []pim.UserID
	for i := range maxEver - len(c.members) + 1 {
		rest = append(rest, pim.UserID(fmt.Sprint("v", i)))
	}
	if kind := do(pim.EntryJoin, rest...); kind != pim.KindTooLarge {
		t.Errorf("one too many: %v", kind)
	}
	if kind := do(pim.EntryJoin, append(rest[1:], "u1")...); kind != 0 || len(c.members) != maxEver {
		t.Errorf("as many as may be, and one who was there before: %v, %d", kind, len(c.members))
	}
}
