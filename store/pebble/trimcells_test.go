package pebble_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store/pebble"
)

// The texts of edits whose messages were trimmed are in no file of the store after a purge: neither
// in the log nor in the folds. Those of other messages are there.
func TestTrimmedFoldsLeaveNoBytes(t *testing.T) {
	fs := vfs.NewMem()
	o := pebble.Options{FS: fs, Logger: quiet()}
	s := open(t, "db", o)
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	w := newSender(t, s)
	var gone, stay [][]byte
	front := pim.Seq(0)
	for i, size := range []int{40, 3000, 60_000, 40, 3000, 60_000} {
		seq := w.submit("alice", pim.EntryMessage, 0, []byte("x"))
		edit, mark := marked(rng, size)
		w.submit("alice", pim.EntryEdit, seq, edit)
		if i < 3 {
			gone, front = append(gone, mark), seq+2
		} else {
			stay = append(stay, mark)
		}
	}
	sinks(t, s)
	if n := holding(t, fs, "db", ".sst", append(gone, stay...)); n != len(gone)+len(stay) {
		t.Fatalf("the tables hold %d of %d edits", n, len(gone)+len(stay))
	}
	if err := w.Trim(t.Context(), "d:alice:bob", front-1); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closes(t, s)
	if n := holding(t, fs, "db", "", gone); n != 0 {
		t.Errorf("the files hold %d of %d edits of trimmed messages", n, len(gone))
	}
	if n := holding(t, fs, "db", "", stay); n != len(stay) {
		t.Errorf("the files hold %d of %d edits of other messages", n, len(stay))
	}
}
