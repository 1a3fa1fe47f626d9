package conv

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// However a conversation grows, whoever comes and goes, and wherever its writer begins anew: from
// what a line says and what a read command says, each member finds the number of messages of
// others that mention the member after the newest own message or joining, and after any read
// position. The test counts them in the log.
func TestMentionsFollowTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		direct := rapid.Bool().Draw(t, "direct")
		c := pim.ConversationID("g:x")
		users := []pim.UserID{"ann", "bob", "cat", "dan"}
		if direct {
			c = pim.Direct("ann", "bob")
		}
		l := &live{conversation: newConversation(c, 10)}
		var log []pim.Entry
		present := [][]pim.UserID{nil} // by seq, before the entry
		var snapshot pim.Seq
		var state []byte
		user := rapid.SampledFrom(users)
		for n := range uint64(rapid.IntRange(1, 40).Draw(t, "entries")) {
			r := &Request{Kind: pim.EntryMessage, Sender: user.Draw(t, "sender")}
			kind := rapid.IntRange(0, 9).Draw(t, "kind")
			switch {
			case direct:
				r.Sender = users[n%2]
			case n == 0:
				r.Kind, r.Sender, r.Members, kind = pim.EntryCreate, "ann", []pim.UserID{"bob"}, 9
			case kind == 0:
				r.Kind, r.Members = pim.EntryJoin, []pim.UserID{user.Draw(t, "joins")}
			case kind == 1:
				r.Kind, r.Members = pim.EntryLeave, []pim.UserID{r.Sender}
			}
			if r.Kind == pim.EntryMessage && kind < 6 {
				r.Mentions = distinct(rapid.SliceOfN(user, 0, 3).Draw(t, "names"))
				r.MentionAll = kind == 5
			}
			r.Conversation, r.ClientID = c, id(n+1)
			before := slices.Clone(l.present)
			o := l.step(r, findings{}, pim.Millis(n))
			if o.err != nil {
				continue
			}
			log, present = append(log, o.entry), append(present, before)
			switch rapid.IntRange(0, 8).Draw(t, "then") {
			case 0:
				snapshot, state = l.last, l.snapshotCell().Value
			case 1:
				again := &live{conversation: newConversation(c, 10), loaded: make(marks)}
				if snapshot != 0 {
					if err := again.restore(snapshot, state); err != nil {
						t.Fatal(err)
					}
				}
				for i := snapshot; i < l.last; i++ {
					again.take(&log[i])
				}
				again.setMarks()
				l = again
			}
			judgeMentions(t, l, log, present)
		}
	})
}

func judgeMentions(t *rapid.T, l *live, log []pim.Entry, present [][]pim.UserID) {
	for _, u := range l.present {
		at := l.markOf(u)
		var read pim.Mentioned
		for seq := range pim.Seq(len(log) + 1) {
			if seq > 0 {
				e := &log[seq-1]
				read.Named, read.All = max(read.Named, e.NamedIn(u)), e.AllCount
			}
			want := uint64(0)
			for i := max(seq, at.Own); i < pim.Seq(len(log)); i++ {
				e := &log[i]
				named := slices.ContainsFunc(e.Mentions, func(m pim.Mention) bool { return m.User == u })
				if e.Sender != u && (named || e.MentionAll) && slices.Contains(present[e.Seq], u) {
					want++
				}
			}
			got := pim.Mentioned{Named: at.Named, All: l.all()}.Since(at.OwnCount, at.OwnAll, read)
			if got != want {
				t.Fatalf("%s, with %+v, has read up to %d of %d, and is mentioned %d times since, want %d", u, at, seq, len(log), got, want)
			}
		}
	}
}

// A member of a conversation that mentions nobody takes up nothing for that.
func TestNoMentionsCostNothing(t *testing.T) {
	c := newConversation("d:ann:bob", 10)
	for n := range uint64(3) {
		c.step(&Request{Conversation: c.id, Kind: pim.EntryMessage, Sender: "ann", ClientID: id(n + 1)}, findings{}, 1)
	}
	if c.mentions != nil {
		t.Errorf("%+v", c.mentions)
	}
}
