package conv

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"pgregory.net/rapid"
)

// Every present member's mark is the newest message or joining of this membership, whoever comes
// and goes.
func TestMarksFollowTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newConversation("g:x", 10)
		want := map[pim.UserID]inbox.Mark{}
		user := rapid.SampledFrom([]pim.UserID{"owner", "ann", "bob", "cat", "dan"})
		for n := range uint64(rapid.IntRange(1, 60).Draw(t, "entries")) {
			r := &Request{Kind: pim.EntryCreate, Sender: "owner", Members: []pim.UserID{"ann", "bob"}}
			if n > 0 {
				r = &Request{Kind: pim.EntryMessage, Sender: user.Draw(t, "sender")}
				switch rapid.IntRange(0, 4).Draw(t, "kind") {
				case 0:
					r.Kind, r.Members = pim.EntryJoin, []pim.UserID{user.Draw(t, "one"), user.Draw(t, "two")}
				case 1:
					r.Kind, r.Members = pim.EntryLeave, []pim.UserID{user.Draw(t, "whom")}
				}
			}
			r.Conversation, r.ClientID = "g:x", id(n+1)
			o := c.step(r, findings{}, pim.Millis(n))
			if o.err != nil {
				continue
			}
			mark := inbox.Mark{Own: o.entry.Seq, OwnCount: o.entry.Count}
			switch e := &o.entry; e.Kind {
			case pim.EntryMessage:
				want[e.Sender] = mark
			case pim.EntryLeave:
				for _, d := range o.departed {
					if d.line.Mark != want[d.user] {
						t.Fatalf("%s leaves with %+v, want %+v", d.user, d.line.Mark, want[d.user])
					}
					delete(want, d.user)
				}
			default:
				for _, u := range e.Members {
					want[u] = mark
				}
			}
			if len(c.marks) != len(c.present) || len(c.present) != len(want) {
				t.Fatalf("%d marks of %v, want those of %v", len(c.marks), c.present, want)
			}
			for i, u := range c.present {
				if c.marks[i] != want[u] || c.members[u].at != i {
					t.Fatalf("%s at %d has %+v, want %+v", u, c.members[u].at, c.marks[i], want[u])
				}
			}
		}
	})
}

// A line knows more than a log whose front is gone, unless it is of an earlier membership.
func TestMarksFromLines(t *testing.T) {
	l := &live{conversation: newConversation("g:x", 10), loaded: make(marks)}
	l.change(&pim.Entry{Kind: pim.EntryCreate, Seq: 1, Members: []pim.UserID{"ann", "bob"}})
	l.change(&pim.Entry{Kind: pim.EntryLeave, Seq: 300, Members: []pim.UserID{"bob"}})
	l.change(&pim.Entry{Kind: pim.EntryJoin, Seq: 400, Members: []pim.UserID{"bob"}})
	l.loaded["ann"] = standing{Mark: inbox.Mark{Own: 255, OwnCount: 200}}
	l.learn("ann", inbox.Line{Newest: 500, Mark: inbox.Mark{Own: 256, OwnCount: 201}, MentionsOf: inbox.MentionsOf{Named: 202, OwnAll: 7}})
	l.learn("ann", inbox.Line{Newest: 400, Mark: inbox.Mark{Own: 130, OwnCount: 100}, MentionsOf: inbox.MentionsOf{Named: 101, OwnAll: 5}})
	l.learn("bob", inbox.Line{Newest: 300, Mark: inbox.Mark{Own: 290, OwnCount: 240}})
	l.setMarks()
	if got, want := fmt.Sprint(l.markOf("ann"), l.markOf("bob"), l.markOf("eve")), "{{256 201} {202 7}} {{0 0} {0 0}} {{0 0} {0 0}}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A message costs the same whoever of 2,000 members sends it.
func BenchmarkMessageToManyMembers(b *testing.B) {
	c := newConversation("g:x", pim.MaxGroupMembers)
	crowd := make([]pim.UserID, pim.MaxGroupMembers-1)
	for i := range crowd {
		crowd[i] = pim.UserID(fmt.Sprintf("user-%04d", i))
	}
	c.step(&Request{Conversation: "g:x", Kind: pim.EntryCreate, Sender: "owner", ClientID: id(1), Members: slices.Clone(crowd)}, findings{}, 1)
	e := &pim.Entry{Kind: pim.EntryMessage, Sender: crowd[len(crowd)-1]}
	b.ReportAllocs()
	for b.Loop() {
		e.Seq++
		c.mark(e)
	}
}
