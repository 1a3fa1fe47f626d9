package conv

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"github.com/pim-im/pim/wire"
)

// bytesRead counts the bytes of a log that are read.
type bytesRead struct {
	store.Store
	n int
}

func (b *bytesRead) Read(ctx context.Context, reads []store.Read) error {
	err := b.Store.Read(ctx, reads)
	for i := range reads {
		for _, r := range reads[i].Records {
			b.n += len(r)
		}
	}
	return err
}

// A look-up of an anchor reads no more than its bound, however large the messages are, and
// finds an anchor that is within it.
func TestAnchorLookUpIsBoundedInBytes(t *testing.T) {
	const messages, payload = 1000, 60 << 10
	ctx, s, id := context.Background(), &bytesRead{Store: storetest.NewMemory()}, pim.Direct("alice", "bob")
	for seq := pim.Seq(1); seq <= messages; seq++ {
		e := &pim.Entry{Seq: seq, Kind: pim.EntryMessage, Sender: "bob", Device: "d", Server: 1_795_000_000_000 + pim.Millis(seq), Payload: make([]byte, payload)}
		if e.Local = e.Server; seq == 100 {
			e.Sender = "alice"
		}
		w := &store.Write{Log: inbox.Entries(id), After: seq - 1, Records: [][]byte{wire.AppendEntry(nil, e)}}
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil || w.Err != nil {
			t.Fatal(err, w.Err)
		}
	}
	if seq, err := findAnchor(ctx, s, id, lateness{"alice", 0, messages}); seq != 100 || err != nil {
		t.Errorf("alice's entry within the bound: %d, %v", seq, err)
	}
	s.n = 0
	if seq, err := findAnchor(ctx, s, id, lateness{"carol", 0, messages}); seq != 0 || err != nil {
		t.Errorf("nobody's entry: %d, %v", seq, err)
	}
	const search = 20 * (payload + 100) // of the binary search
	if most := anchorReachBytes + pim.MaxPageBytes + search; s.n > most {
		t.Errorf("it read %d bytes, the most is %d", s.n, most)
	}
}

// However far a sender's clock is behind, the look-up finds the anchor of the rule in a conversation of 200 messages a second: the first
// of the sender's entries whose L' is greater. Some of the sender's messages are late resends themselves.
func TestAnchorsOfSlowClocks(t *testing.T) {
	const begun, every, minutes = pim.Millis(1_795_000_000_000), 5, 4
	seed := seeds.First(t)
	for _, behind := range []pim.Millis{-500, 0, 30_000, 60_000, 120_000, 179_000} {
		ctx, s, id := context.Background(), storetest.NewMemory(), pim.ConversationID("g:busy")
		random := rand.New(rand.NewPCG(seed, uint64(behind)))
		var rule pim.Anchors
		var alices []*pim.Entry
		var records [][]byte
		last := pim.Seq(minutes * 60_000 / every)
		for seq := pim.Seq(1); seq <= last; seq++ {
			e := &pim.Entry{Seq: seq, Kind: pim.EntryMessage, Sender: "bob", Device: "d", Server: begun + pim.Millis(seq)*every}
			e.Local, e.Anchor = e.Server, seq
			if random.IntN(6) == 0 {
				e.Sender, e.Local = "alice", e.Server-behind
				if random.IntN(10) == 0 {
					e.Local -= pim.Millis(random.IntN(int(pim.OrderWindow)))
				}
				e.Anchor = rule.Next(seq, e.Local, e.Server)
				alices = append(alices, e)
			}
			if records = append(records, wire.AppendEntry(nil, e)); len(records) == 1000 || seq == last {
				w := &store.Write{Log: inbox.Entries(id), After: seq - pim.Seq(len(records)), Records: records}
				if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil || w.Err != nil {
					t.Fatal(err, w.Err)
				}
				records = nil
			}
		}
		upTo, newest := rule.Peak()
		wrong := 0
		for range 200 {
			local := newest - 1 - pim.Millis(random.IntN(int(pim.OrderWindow)))
			i := slices.IndexFunc(alices, func(e *pim.Entry) bool { return e.OrderTime() > local })
			found, err := findAnchor(ctx, s, id, lateness{"alice", local, upTo})
			if err != nil {
				t.Fatal(err)
			}
			if found != alices[i].Seq {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("with a clock %d ms behind, %d of 200 anchors are wrong", behind, wrong)
		}
	}
}
