package dedup

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
	"pgregory.net/rapid"
)

const chat = pim.ConversationID("d:ann:bob")

// testLog is a log in memory, and the IDs of its entries.
type testLog struct {
	Log
	ids    IDs
	last   pim.Seq
	search *Search // of find, for all that it looks up
}

func newTestLog() *testLog {
	st := storetest.NewMemory()
	return &testLog{Log: Log{
		Conversation: chat,
		Store:        st,
		Entries: func(ctx context.Context, from, to pim.Seq) (entries []pim.Entry, err error) {
			records, err := store.ReadLog(ctx, st, "log", from, to, store.Limit{Records: int(to - from + 1), Bytes: 1 << 30})
			for _, data := range records {
				e, err := wire.ParseEntry(chat, data)
				if err != nil {
					return nil, err
				}
				entries = append(entries, e)
			}
			return entries, err
		},
	}}
}

// message is a client message ID, and the server time at which it is appended.
type message struct {
	id     pim.ClientMessageID
	server pim.Millis
}

// commit appends messages as a writer does, with the cells that follow from them.
func (l *testLog) commit(t interface{ Fatal(...any) }, messages ...message) {
	w := store.Write{Log: "log", After: l.last}
	for _, m := range messages {
		l.last++
		e := pim.Entry{Conversation: chat, Seq: l.last, Kind: pim.EntryMessage, Sender: "ann", ClientID: m.id, Server: m.server}
		w.Records = append(w.Records, wire.AppendEntry(nil, &e))
		if l.ids.Add(m.id, m.server) {
			w.Cells = append(w.Cells, Strange(chat, m.id, l.last))
		}
	}
	cell, level, full := l.ids.Full(chat)
	if full {
		w.Cells = append(w.Cells, cell)
	}
	if err := store.Commit(context.Background(), l.Store, []*store.Write{&w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	if full {
		l.ids.Stored(level)
	}
}

// find returns the seq of id, remembered or looked up; 0 if it is not found.
func (l *testLog) find(t interface{ Fatal(...any) }, id pim.ClientMessageID, now pim.Millis) pim.Seq {
	if !l.ids.Elsewhere(id) {
		return l.ids.Seq(id)
	}
	if l.search == nil {
		l.search = l.ids.Search(l.Log, now)
	}
	seq, err := l.search.LookUp(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// idAt returns the n-th client message ID, with the time at in ms.
func idAt(at int64, n int) (id pim.ClientMessageID) {
	binary.BigEndian.PutUint64(id[:], uint64(at)<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// Every ID of a log is found at its seq, whether it is remembered, in the index, or in a cell
// of its own. An ID that the log does not have is not found. This holds whatever the times of
// the IDs are, and however often another writer takes over. The remembered IDs stay bounded.
func TestEveryIDIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newTestLog()
		l.ids.index.fan = rapid.IntRange(1, 4).Draw(t, "fan")
		now := pim.Millis(1_795_000_000_000)
		var all []pim.ClientMessageID
		off := rapid.SampledFrom([]int64{0, 0, 0, -5, -900, -9_000, 900, -20_000, 50_000, -1 << 40, 1 << 40})
		for range rapid.IntRange(1, 40).Draw(t, "commits") {
			var messages []message
			for range rapid.IntRange(1, 200).Draw(t, "entries") {
				now += pim.Millis(rapid.SampledFrom([]int64{0, 0, 1, 30}).Draw(t, "passes"))
				id := idAt(int64(now)+off.Draw(t, "off"), len(all))
				all = append(all, id)
				messages = append(messages, message{id, now})
			}
			l.commit(t, messages...)
			now += pim.Millis(rapid.SampledFrom([]int64{0, 0, 2000, 100_000}).Draw(t, "silence"))
			switch rapid.IntRange(0, 5).Draw(t, "then") {
			case 0, 1, 2:
				l.ids.MoveToIndex(now)
			case 3: // another writer takes over
				l.ids.MoveToIndex(now)
				l.ids = restored(t, &l.ids, l.last)
			}
		}
		for range 50 {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "which")
			if seq := l.find(t, all[i], now); seq != pim.Seq(i+1) {
				t.Fatalf("ID %d of %d is found at %d", i+1, len(all), seq)
			}
			other := all[i]
			other[15] ^= 1
			other[9] = 1
			if seq := l.find(t, other, now); seq != 0 {
				t.Fatalf("an ID that is not there is found at %d", seq)
			}
		}
		for seq := range l.last {
			if remembered := l.ids.Seq(all[seq]) != 0; remembered != l.ids.Remembers(seq) {
				t.Fatalf("the ID of seq %d is remembered: %v", seq+1, remembered)
			}
		}
		if n := len(l.ids.recent.ring); n > 4*rememberMost {
			t.Fatalf("%d IDs are remembered", n)
		}
	})
}

// restored returns the IDs from a snapshot of x. They must be all that x knew, except for
// those that x remembered although they are in the index.
func restored(t *rapid.T, x *IDs, last pim.Seq) IDs {
	var e varint.Encoder
	x.Append(&e, last)
	d := varint.Decoder{B: e.B}
	again := Restore(&d, last)
	if err := d.End(); err != nil {
		t.Fatal(err)
	}
	again.index.fan = x.index.fan
	for seq := x.recent.kept + 1; seq <= last; seq++ {
		if again.recent.seq(x.recent.id(seq)) != seq {
			t.Fatalf("the ID of seq %d is lost", seq)
		}
	}
	if again.recent.kept != x.recent.kept || x.recent.newestGone != 0 && again.recent.newestGone < x.recent.newestGone {
		t.Fatalf("IDs in the index: %d became %d", x.recent.kept, again.recent.kept)
	}
	if again.strangers != x.strangers || !slices.EqualFunc(again.index.levels, x.index.levels, slices.Equal) {
		t.Fatalf("index %+v became %+v", x.index, again.index)
	}
	strange := maps.Clone(x.recent.strange)
	maps.DeleteFunc(strange, func(seq pim.Seq, _ bool) bool { return seq <= x.recent.kept })
	if !maps.Equal(again.recent.strange, strange) {
		t.Fatalf("strange IDs: %v became %v", x.recent.strange, again.recent.strange)
	}
	return again
}

// The index stays small, and a look-up reads little, in a log of a hundred million
// entries.
func TestIndexOfALongLog(t *testing.T) {
	var x index
	log := newTestLog().Log
	ctx := context.Background()
	const entries = 100_000_000
	for seq := pim.Seq(1); seq < entries; seq += 100 {
		x.add(stretch{seq, seq + 99, int64(seq) * 2, int64(seq)*2 + 250})
		for level, full := x.full(); full; level, full = x.full() {
			if err := store.Commit(ctx, log.Store, []*store.Write{{Cells: []store.CellWrite{x.cell(chat, level)}}}, store.Relaxed); err != nil {
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
		err := x.search(ctx, log, int64(seq)*2+100, func(s stretch) (bool, error) {
			found = append(found, s)
			return false, nil
		})
		if err != nil || len(found) == 0 || len(found) > 2 || found[len(found)-1].first > seq || found[0].last < seq {
			t.Errorf("seq %d is looked for in %v, %v", seq, found, err)
		}
	}
}

// A look-up that would read very much is refused.
func TestLookUpIsBounded(t *testing.T) {
	l := newTestLog()
	const entries = indexBlock * (maxReads + 40)
	var messages []message
	for i := range entries {
		messages = append(messages, message{idAt(0, i+1_000_000), 0})
	}
	l.commit(t, messages...)
	l.ids = IDs{}
	for seq := pim.Seq(1); seq < entries; seq += indexBlock {
		l.ids.index.add(stretch{seq, seq + indexBlock - 1, 0, 1000})
	}
	l.ids.recent.startAfter(entries, l.ids.index.newest(entries))
	id := pim.ClientMessageID{8: 1}
	if !l.ids.Elsewhere(id) {
		t.Fatal("it is not looked up")
	}
	if _, err := l.ids.Search(l.Log, 0).LookUp(t.Context(), id); !errors.Is(err, ErrTooMany) {
		t.Errorf("answered with %v", err)
	}
}

// IDs that have grown for what comes know the same as those that grow with it, and their ring is
// made once.
func TestGrow(t *testing.T) {
	const n = 100
	var with, without IDs
	with.Grow(n)
	ring := len(with.recent.ring)
	for i := range n {
		id := pim.ClientMessageID{15: byte(i + 1)}
		with.Add(id, 1)
		without.Add(id, 1)
	}
	if len(with.recent.ring) != ring || ring != len(without.recent.ring) {
		t.Errorf("a ring of %d, then of %d; %d without Grow", ring, len(with.recent.ring), len(without.recent.ring))
	}
	for i := range n {
		id := pim.ClientMessageID{15: byte(i + 1)}
		if a, b := with.Seq(id), without.Seq(id); a != b || a != pim.Seq(i+1) {
			t.Errorf("ID %d: seq %d, %d without Grow", i, a, b)
		}
	}
}
