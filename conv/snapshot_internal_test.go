package conv

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"pgregory.net/rapid"
)

// grown returns a conversation with random members and messages. All its entries are
// settled.
func grown(t *rapid.T) *live {
	l := &live{conversation: newConversation("g:x", pim.MaxGroupMembers), loaded: make(marks)}
	now := pim.Millis(1_795_000_000_000)
	var n uint64
	do := func(r *Request) {
		now += pim.Millis(rapid.SampledFrom([]int64{0, 1, 100, 20_000}).Draw(t, "passes"))
		n++
		r.Conversation, r.ClientID, r.Local = "g:x", id(n), now
		l.step(r, findings{}, now)
	}
	do(&Request{Kind: pim.EntryCreate, Sender: "owner", Members: []pim.UserID{"ann", "bob"}})
	user := rapid.SampledFrom([]pim.UserID{"owner", "ann", "bob", "cat", "dan"})
	for range rapid.IntRange(0, 300).Draw(t, "entries") {
		r := &Request{Kind: pim.EntryMessage, Sender: user.Draw(t, "sender")}
		if rapid.IntRange(0, 9).Draw(t, "mentions") == 0 {
			r.Mentions = []pim.UserID{user.Draw(t, "named")}
		}
		switch rapid.IntRange(0, 30).Draw(t, "kind") {
		case 0:
			r.Kind, r.Members = pim.EntryJoin, []pim.UserID{user.Draw(t, "whom")}
		case 1:
			r.Kind, r.Members = pim.EntryLeave, []pim.UserID{r.Sender}
		}
		do(r)
		if rapid.IntRange(0, 20).Draw(t, "commits") == 0 {
			l.ids.MoveToIndex(now)
			l.settled(&batch{})
		}
	}
	l.settled(&batch{})
	l.blocks = blocks{by: [2]block{{version: 3, on: true}, {version: 9}}, known: rapid.Bool().Draw(t, "blocks")}
	return l
}

// The state that is restored from a snapshot equals the state that the snapshot was made of,
// except for anchors that are found in the log instead.
func TestSnapshotIsTheState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := grown(t)
		cell := l.snapshotCell()
		again := &live{conversation: newConversation("g:x", pim.MaxGroupMembers), loaded: make(marks)}
		if err := again.restore(pim.Seq(cell.Version), cell.Value); err != nil {
			t.Fatal(err)
		}
		if again.last != l.last || again.count != l.count || again.times.State() != l.times.State() || again.snapshot != l.last {
			t.Fatalf("%+v became %+v", l.conversation, again.conversation)
		}
		again.setMarks()
		for i, u := range l.present {
			if j := slices.Index(again.present, u); j < 0 || again.standingAt(j) != l.standingAt(i) || l.marks[i].Own == 0 {
				t.Fatalf("marks %v of %v became %v of %v", l.marks, l.present, again.marks, again.present)
			}
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

// Whatever bytes restore gets, it refuses them, or makes a state that is not much larger.
func FuzzSnapshot(f *testing.F) {
	rapid.Check(f, func(t *rapid.T) {
		cell := grown(t).snapshotCell()
		f.Add(cell.Version, cell.Value)
	})
	f.Fuzz(func(t *testing.T, seq uint64, value []byte) {
		l := &live{conversation: newConversation("g:x", pim.MaxGroupMembers), loaded: make(marks)}
		if err := l.restore(pim.Seq(seq), value); err != nil {
			if kind := pim.KindOf(err); kind != pim.KindCorrupt && kind != pim.KindUnavailable {
				t.Fatalf("%v", err)
			}
			return
		}
		if size := l.ids.Room() + l.ids.Others(); len(l.members) > len(value) || size > 200*len(value)+1000 {
			t.Fatalf("%d bytes became %d members, and IDs of %d bytes", len(value), len(l.members), size)
		}
	})
}

// A snapshot's size is bounded, also for very many senders and very many members. What the
// snapshot leaves out is found elsewhere.
func TestSnapshotIsBounded(t *testing.T) {
	l := &live{conversation: newConversation("g:x", pim.MaxGroupMembers), loaded: make(marks)}
	crowd := make([]pim.UserID, pim.MaxGroupMembers-1)
	for i := range crowd {
		crowd[i] = pim.UserID(fmt.Sprint("a-user-with-a-name-of-some-length-", i))
	}
	l.step(&Request{Conversation: "g:x", Kind: pim.EntryCreate, Sender: "owner", ClientID: id(1), Members: crowd}, findings{}, 1)
	for i, u := range crowd {
		l.step(message("g:x", u, uint64(i+2), pim.Millis(i)), findings{}, pim.Millis(i))
		l.ids.MoveToIndex(pim.Millis(i))
		l.settled(&batch{})
	}
	cell := l.snapshotCell()
	if n := len(cell.Value); n > 112<<10 {
		t.Errorf("a snapshot of %d bytes", n)
	}
	again := &live{conversation: newConversation("g:x", pim.MaxGroupMembers), loaded: make(marks)}
	if err := again.restore(pim.Seq(cell.Version), cell.Value); err != nil {
		t.Fatal(err)
	}
	silent := crowd[0] // for longest: the anchor of a late resend must be looked up in the log
	if at, late := again.late(message("g:x", silent, 99, 0), pim.Millis(len(crowd))); !late || at.upTo == 0 {
		t.Errorf("the anchor of who was silent for long: %+v, %v", at, late)
	}
	if _, late := again.late(message("g:x", "nobody-yet", 99, pim.Millis(len(crowd)+5000)), pim.Millis(len(crowd)+5000)); late {
		t.Error("a message in order is looked for in the log")
	}
}

// measurable is how many bytes are counted for what tests compare with the heap: far more than what the heap has by chance.
const measurable = 2 << 20

// inHeap returns the bytes of the heap that are in use.
func inHeap() int {
	runtime.GC()
	runtime.GC() // the contents of a sync.Pool survive one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The counted cost of conversations is about the memory that they take up, so that a bound
// on the cost bounds the memory.
func TestCostIsTheMemory(t *testing.T) {
	for _, entries := range []int{1, 30, 200, 3000} {
		before := inHeap()
		lives := make(map[pim.ConversationID]*live)
		cost := 0
		for i := 0; cost < measurable; i++ {
			c := pim.Direct(pim.UserID(fmt.Sprint("a", i)), pim.UserID(fmt.Sprint("b", i)))
			l := &live{conversation: newConversation(c, 2)}
			now := pim.MillisOf(time.Now())
			for j := range entries {
				at := now + pim.Millis(40*j)
				r := message(c, l.present[j%2], 0, at)
				r.ClientID = pim.NewClientMessageID(time.UnixMilli(int64(at)))
				l.step(r, findings{}, at)
				if l.settled(&batch{}); j%96 == 95 {
					l.ids.MoveToIndex(at)
				}
			}
			lives[c] = l
			cost += l.cost()
		}
		heap := inHeap() - before
		t.Logf("%d entries: %d bytes a conversation, %d are counted", entries, heap/len(lives), cost/len(lives))
		if heap > cost*5/4 || heap < cost/3 {
			t.Errorf("%d entries: %d bytes of memory are counted as %d", entries, heap, cost)
		}
		runtime.KeepAlive(lives)
	}
}
