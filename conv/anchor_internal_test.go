package conv

import (
	"context"
	"testing"

	"github.com/pim-im/pim"
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
