package engine

import (
	"slices"
	"testing"

	"github.com/pim-im/pim"
)

// The newest message of the user below a position is looked for, a page at a time, and no
// further than where it is found.
func TestSeekOwn(t *testing.T) {
	fx := &effects{meta: Meta{User: "alice"}}
	f := fetches{fx: fx, active: make(map[uint64]fetch)}
	c := &conversation{id: "d:alice:bob", known: 2000, own: 1900, ownUpTo: 5}
	f.seekOwn(c, false)
	if len(fx.take().Reads) != 0 || c.own != 1900 {
		t.Fatal("what is below the position is looked for")
	}
	c.known = 1800
	page := func(r Read) (entries []pim.Entry) {
		for seq := max(1, int(r.UpTo)-r.Limit+1); seq <= int(r.UpTo); seq++ {
			e := pim.Entry{Seq: pim.Seq(seq), Kind: pim.EntryMessage, Sender: "bob", Count: uint64(seq)}
			if seq == 900 || seq == 901 {
				e.Sender = "alice"
			}
			entries = append(entries, e)
		}
		return entries
	}
	f.seekOwn(c, false)
	var upTo []pim.Seq
	for reads := fx.take().Reads; len(reads) > 0; reads = fx.take().Reads {
		upTo = append(upTo, reads[0].UpTo)
		f.answered(FromStore{ID: reads[0].ID + 1}) // of another
		f.answered(FromStore{ID: reads[0].ID, Entries: page(reads[0])})
	}
	if want := []pim.Seq{1800, 1300}; !slices.Equal(upTo, want) || c.own != 901 || c.ownUpTo != 901 || len(f.active) != 0 {
		t.Errorf("read up to %d, want %d; found %d", upTo, want, c.own)
	}
	c.known = 1
	f.seekOwn(c, false)
	f.forget()
	f.answered(FromStore{ID: f.last, Entries: page(Read{UpTo: 1, Limit: seekPage})})
	if c.own != 0 {
		t.Error("the answer of an earlier connection is taken")
	}
}
