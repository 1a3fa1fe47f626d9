package conv

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"pgregory.net/rapid"
)

// Every ID of a log is found at its seq, remembered or in the index or in a cell of its
// own, and no other is, whatever their times are, and however often the conversation
// was loaded in between; and what a look-up reads is bounded.
func TestEveryIDIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		st := storetest.NewMemory()
		commit := func(w *store.Write) {
			if err := st.Commit(ctx, []*store.Write{w}, store.Durable); err != nil {
				t.Fatal(err)
			}
		}
		l := &live{conversation: newConversation("d:ann:bob", 2)}
		l.index.fan = rapid.IntRange(1, 4).Draw(t, "fan")
		now := pim.Millis(1_795_000_000_000)
		var all []pim.ClientMessageID
		off := rapid.SampledFrom([]int64{0, 0, 0, -5, -900, -9_000, 900, -20_000, 50_000, -1 << 40, 1 << 40})
		for range rapid.IntRange(1, 40).Draw(t, "commits") {
			g := &group{conv: l}
			for range rapid.IntRange(1, 200).Draw(t, "entries") {
				now += pim.Millis(rapid.SampledFrom([]int64{0, 0, 1, 30}).Draw(t, "passes"))
				var x pim.ClientMessageID
				binary.BigEndian.PutUint64(x[:], uint64(int64(now)+off.Draw(t, "off"))<<16)
				binary.BigEndian.PutUint64(x[8:], uint64(len(all)))
				all = append(all, x)
				r := &Request{Conversation: l.id, Kind: pim.EntryMessage, Sender: "ann", ClientID: x, Local: now}
				o := l.step(r, known{}, now)
				g.add(r, &o, nil)
			}
			g.write.Log = inbox.Entries(l.id)
			g.finish()
			commit(&g.write)
			l.settled(g)
			now += pim.Millis(rapid.SampledFrom([]int64{0, 0, 2000, 100_000}).Draw(t, "silence"))
			switch rapid.IntRange(0, 5).Draw(t, "then") {
			case 0, 1, 2:
				l.recent.settle(&l.index, now)
			case 3: // another writer takes over
				cell := l.snapshotCell()
				again := &live{conversation: newConversation(l.id, 2)}
				if err := again.restore(pim.Seq(cell.Version), cell.Value); err != nil {
					t.Fatal(err)
				}
				again.index.fan = l.index.fan
				l = again
			}
		}
		find := func(x pim.ClientMessageID) pim.Seq {
			older, err := l.lookUp(ctx, st, &Request{ClientID: x})
			if err != nil {
				t.Fatal(err)
			}
			return max(older, l.recent.seq(x))
		}
		for range 50 {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
			if seq := find(all[i]); seq != pim.Seq(i+1) {
				t.Fatalf("ID %d of %d is found at %d", i+1, len(all), seq)
			}
			other := all[i]
			other[15] ^= 1
			other[9] = 1
			if seq := find(other); seq != 0 {
				t.Fatalf("an ID that is not there is found at %d", seq)
			}
		}
		if n := len(l.recent.ring); n > 4*rememberMost {
			t.Fatalf("%d IDs are remembered", n)
		}
	})
}

// The index stays small, and a look-up reads little, in a conversation of a hundred
// million entries.
func TestIndexOfALongLog(t *testing.T) {
	var x index
	mem := storetest.NewMemory()
	ctx := context.Background()
	const entries = 100_000_000
	for seq := pim.Seq(1); seq < entries; seq += 100 {
		x.add(stretch{seq, seq + 99, int64(seq) * 2, int64(seq)*2 + 250})
		for level, full := x.full(); full; level, full = x.full() {
			if err := mem.Commit(ctx, []*store.Write{{Cells: []store.CellWrite{x.cell("d:ann:bob", level)}}}, store.Relaxed); err != nil {
				t.Fatal(err)
			}
			x.stored(level)
		}
	}
	n := 0
	for _, stretches := range x.levels {
		n += len(stretches)
	}
	if n > 4*2*indexFan || x.size() > 16<<10 {
		t.Errorf("%d stretches, %d bytes", n, x.size())
	}
	for _, seq := range []pim.Seq{1, 12_345_601, entries/2 + 1, entries - 99} {
		var found []stretch
		err := x.search(ctx, mem, "d:ann:bob", int64(seq)*2+100, func(s stretch) (bool, error) {
			found = append(found, s)
			return false, nil
		})
		if err != nil || len(found) == 0 || len(found) > 2 || found[len(found)-1].first > seq || found[0].last < seq {
			t.Errorf("seq %d is looked for in %v, %v", seq, found, err)
		}
	}
}

// A look-up that would read very much is refused, to be tried again; nothing is doubled.
func TestLookUpIsBounded(t *testing.T) {
	ctx := context.Background()
	mem := storetest.NewMemory()
	l := &live{conversation: newConversation("d:ann:bob", 2)}
	w := store.Write{Log: inbox.Entries(l.id)}
	const entries = indexBlock * (indexReads + 40)
	for i := range pim.Seq(entries) {
		e := pim.Entry{Conversation: l.id, Seq: i + 1, Kind: pim.EntryMessage, Sender: "ann", ClientID: id(uint64(i))}
		w.Records = append(w.Records, wire.AppendEntry(nil, &e))
	}
	if err := mem.Commit(ctx, []*store.Write{&w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	for seq := pim.Seq(1); seq < entries; seq += indexBlock {
		l.index.add(stretch{seq, seq + indexBlock - 1, 0, 1000})
	}
	l.last = entries
	l.recent.startAfter(entries, l.index.newest(entries))
	if _, err := l.lookUp(ctx, mem, &Request{ClientID: pim.ClientMessageID{8: 1}}); pim.KindOf(err) != pim.KindOverloaded {
		t.Errorf("answered with %v", err)
	}
}

// A conversation with a message every few seconds stays small, however many there were:
// a server may have a hundred thousand of them at a time.
func TestASlowConversationIsSmall(t *testing.T) {
	l := &live{conversation: newConversation("d:ann:bob", 2)}
	now := pim.Millis(1_795_000_000_000)
	for seq := pim.Seq(1); seq <= 3_000; seq++ {
		now += 6_000
		if seq%snapshotEvery == 0 {
			l.snapshotCell()
		}
		var x pim.ClientMessageID
		binary.BigEndian.PutUint64(x[:], uint64(now)<<16)
		sender := []pim.UserID{"ann", "bob"}[seq%2]
		if o := l.step(&Request{Conversation: l.id, Kind: pim.EntryMessage, Sender: sender, ClientID: x, Local: now}, known{}, now); o.err != nil {
			t.Fatal(o.err)
		}
		if cost := l.cost(); cost > 6_000 {
			t.Fatalf("after %d messages it takes %d bytes: %d of IDs, %d of the index", seq, cost, l.recent.size(), l.index.size())
		}
	}
}
