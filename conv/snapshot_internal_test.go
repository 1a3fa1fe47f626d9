package conv

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// grown returns a conversation of random members that messages were written to, all
// of whose entries are settled.
func grown(t *rapid.T) *live {
	l := &live{conversation: newConversation("g:x", pim.MaxGroupMembers)}
	now := pim.Millis(1_795_000_000_000)
	var n uint64
	do := func(r *Request) {
		now += pim.Millis(rapid.SampledFrom([]int64{0, 1, 100, 20_000}).Draw(t, "passes"))
		n++
		r.Conversation, r.ClientID, r.Local = "g:x", id(n), now
		l.step(r, known{}, now)
	}
	do(&Request{Kind: pim.EntryCreate, Sender: "owner", Members: []pim.UserID{"ann", "bob"}})
	user := rapid.SampledFrom([]pim.UserID{"owner", "ann", "bob", "cat", "dan"})
	for range rapid.IntRange(0, 300).Draw(t, "entries") {
		r := &Request{Kind: pim.EntryMessage, Sender: user.Draw(t, "sender")}
		switch rapid.IntRange(0, 30).Draw(t, "kind") {
		case 0:
			r.Kind, r.Members = pim.EntryJoin, []pim.UserID{user.Draw(t, "whom")}
		case 1:
			r.Kind, r.Members = pim.EntryLeave, []pim.UserID{r.Sender}
		}
		do(r)
		if rapid.IntRange(0, 20).Draw(t, "commits") == 0 {
			l.recent.settle(&l.index, now)
			l.settled(&group{})
		}
	}
	l.settled(&group{})
	l.blocks = blocks{by: [2]block{{version: 3, on: true}, {version: 9}}, known: rapid.Bool().Draw(t, "blocks")}
	return l
}

// What is restored from a snapshot is what it was made of, but for anchors that it
// finds in the log.
func TestSnapshotIsTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := grown(t)
		cell := l.snapshotCell()
		again := &live{conversation: newConversation("g:x", pim.MaxGroupMembers)}
		if err := again.restore(pim.Seq(cell.Version), cell.Value); err != nil {
			t.Fatal(err)
		}
		if again.last != l.last || again.count != l.count || again.times != l.times || again.snapshot != l.last {
			t.Fatalf("%+v became %+v", l.conversation, again.conversation)
		}
		for seq := l.recent.kept + 1; seq <= l.last; seq++ {
			if again.recent.seq(l.recent.id(seq)) != seq {
				t.Fatalf("the ID of seq %d is lost", seq)
			}
		}
		if again.recent.kept != l.recent.kept || l.recent.newestGone != 0 && again.recent.newestGone < l.recent.newestGone {
			t.Fatalf("IDs in the index: %d to %d", l.recent.kept, again.recent.kept)
		}
		if again.strangers != l.strangers || !slices.EqualFunc(again.index.levels, l.index.levels, slices.Equal) {
			t.Fatalf("index %+v became %+v", l.index, again.index)
		}
		if !maps.Equal(again.recent.strange, within(l.recent.strange, l.recent.kept)) {
			t.Fatalf("strange IDs: %v became %v", l.recent.strange, again.recent.strange)
		}
		for u, a := range l.order {
			if b := again.order[u]; b == nil || b.Latest() != a.Latest() {
				t.Fatalf("of %s: %+v became %+v", u, a, b)
			}
		}
		if l.blocks.known && (again.blocks.by[0].on != l.blocks.by[0].on || again.blocks.by[1].version != 9) {
			t.Fatalf("%+v became %+v", l.blocks, again.blocks)
		}
		slices.Sort(l.present)
		slices.Sort(again.present)
		if len(again.members) != len(l.members) || !slices.Equal(again.present, l.present) {
			t.Fatalf("members %v became %v", l.present, again.present)
		}
		for u, m := range l.members {
			if b := again.members[u]; b == nil || b.changed != m.changed || b.place != m.place || !bytes.Equal(b.Value(), m.Value()) {
				t.Fatalf("member %s: %+v became %+v", u, m, b)
			}
		}
	})
}

// within returns those after kept.
func within(strange map[pim.Seq]bool, kept pim.Seq) map[pim.Seq]bool {
	after := maps.Clone(strange)
	maps.DeleteFunc(after, func(seq pim.Seq, _ bool) bool { return seq <= kept })
	return after
}

// What is no snapshot is refused, whatever it is.
func FuzzSnapshot(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) {
		cell := grown(t).snapshotCell()
		f.Add(cell.Version, cell.Value)
	})
	f.Fuzz(func(t *testing.T, seq uint64, value []byte) {
		l := &live{conversation: newConversation("g:x", pim.MaxGroupMembers)}
		if err := l.restore(pim.Seq(seq), value); err != nil {
			if kind := pim.KindOf(err); kind != pim.KindCorrupt && kind != pim.KindUnavailable {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(l.members) > len(value) || l.recent.size() > 100*len(value)+1000 {
			t.Fatalf("%d bytes became %d members, and IDs of %d bytes", len(value), len(l.members), l.recent.size())
		}
	})
}

// A snapshot's size is bounded, whatever the conversation: very many senders, very many
// members. What it leaves out is found elsewhere.
func TestSnapshotIsBounded(t *testing.T) {
	l := &live{conversation: newConversation("g:x", pim.MaxGroupMembers)}
	crowd := make([]pim.UserID, pim.MaxGroupMembers-1)
	for i := range crowd {
		crowd[i] = pim.UserID(fmt.Sprint("a-user-with-a-name-of-some-length-", i))
	}
	l.step(&Request{Conversation: "g:x", Kind: pim.EntryCreate, Sender: "owner", ClientID: id(1), Members: crowd}, known{}, 1)
	for i, u := range crowd {
		l.step(message("g:x", u, uint64(i+2), pim.Millis(i)), known{}, pim.Millis(i))
		l.recent.settle(&l.index, pim.Millis(i))
		l.settled(&group{})
	}
	cell := l.snapshotCell()
	if n := len(cell.Value); n > 48<<10 {
		t.Errorf("a snapshot of %d bytes", n)
	}
	again := &live{conversation: newConversation("g:x", pim.MaxGroupMembers)}
	if err := again.restore(pim.Seq(cell.Version), cell.Value); err != nil {
		t.Fatal(err)
	}
	silent := crowd[0] // for longest: a late resend is to be looked for in the log
	if at, late := again.late(message("g:x", silent, 99, 0), pim.Millis(len(crowd))); !late || at.upTo == 0 {
		t.Errorf("the anchor of who was silent for long: %+v, %v", at, late)
	}
	if _, late := again.late(message("g:x", "nobody-yet", 99, pim.Millis(len(crowd)+5000)), pim.Millis(len(crowd)+5000)); late {
		t.Error("a message in order is looked for in the log")
	}
}

// What conversations are said to weigh is what they take up in memory, so that a bound
// of the one is a bound of the other.
func TestCostIsTheMemory(t *testing.T) {
	for _, entries := range []int{1, 30, 200, 3000} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		lives := make(map[pim.ConversationID]*live)
		cost := 0
		for i := range max(50, 20_000/entries) {
			c := pim.Direct(pim.UserID(fmt.Sprint("a", i)), pim.UserID(fmt.Sprint("b", i)))
			l := &live{conversation: newConversation(c, 2)}
			now := pim.MillisOf(time.Now())
			for j := range entries {
				at := now + pim.Millis(40*j)
				r := message(c, l.present[j%2], 0, at)
				r.ClientID = pim.NewClientMessageID(time.UnixMilli(int64(at)))
				l.step(r, known{}, at)
				if l.settled(&group{}); j%96 == 95 {
					l.recent.settle(&l.index, at)
				}
			}
			lives[c] = l
			cost += l.cost()
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap := int(after.HeapAlloc - before.HeapAlloc)
		t.Logf("%d entries: %d bytes a conversation, %d are counted", entries, heap/len(lives), cost/len(lives))
		if heap > cost*5/4 || heap < cost/3 {
			t.Errorf("%d entries: %d bytes of memory are counted as %d", entries, heap, cost)
		}
		runtime.KeepAlive(lives)
	}
}
