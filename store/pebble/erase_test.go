package pebble_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/wire"
)

// Nothing of what alice has written up to a seq is in a file of the store once she has erased it
// and the store has purged its files: no message, no edit, neither in the log nor in the
// folds. The writers step over snapshots and take several writes for it. What bob has written, and
// what she writes later, is there, and so is every entry.
func TestAnEraseLeavesNoBytes(t *testing.T) {
	const many = 6000 // more than one write erases
	fs := vfs.NewMem()
	o := pebble.Options{FS: fs, Logger: quiet()}
	s := open(t, "db", o)
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	w := newSender(t, s)
	var gone, stay [][]byte
	say := func(by pim.UserID, kind pim.EntryKind, refers pim.Seq, size int, marks *[][]byte) pim.Seq {
		t.Helper()
		payload, mark := marked(rng, size)
		*marks = append(*marks, mark)
		return w.submit(by, kind, refers, payload)
	}
	for _, size := range []int{40, 3000, 60_000} { // in place, apart, and of several chunks
		seq := say("alice", pim.EntryMessage, 0, size, &gone)
		say("bob", pim.EntryMessage, 0, size, &stay)
		say("alice", pim.EntryEdit, seq, size, &gone)
		say("alice", pim.EntryEdit, seq, size, &gone)
	}
	for left := many; left > 0; {
		some := make([]*conv.Request, min(left, 1000))
		for i := range some {
			by, marks := pim.UserID("alice"), &gone
			if i%10 == 0 {
				by, marks = "bob", &stay
			}
			payload, mark := marked(rng, 40)
			*marks = append(*marks, mark)
			some[i] = w.request(by, pim.EntryMessage, 0, payload)
		}
		w.Submit(some)
		for range some {
			if a := <-w.told; a.Err != nil {
				t.Fatal(a.Err)
			}
		}
		left -= len(some)
	}
	last := say("alice", pim.EntryMessage, 0, 40, &gone)
	say("alice", pim.EntryEdit, last, 40, &gone) // behind last, but of a message up to there
	say("alice", pim.EntryMessage, 0, 40, &stay)
	sinks(t, s)
	// Not all of them: compression cuts one here and there in two.
	if n := holding(t, fs, "db", ".sst", gone); n < len(gone)*9/10 {
		t.Fatalf("the tables hold %d of %d payloads", n, len(gone))
	}
	erase := w.submit("alice", pim.EntryErase, last, nil)
	w.Close()
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closes(t, s)
	if n := holding(t, fs, "db", "", gone); n != 0 {
		t.Errorf("the files hold %d of %d erased payloads", n, len(gone))
	}
	if n := holding(t, fs, "db", "", stay); n < len(stay)*9/10 {
		t.Errorf("the files hold %d of %d payloads that were not erased", n, len(stay))
	}
	count, next := uint64(0), pim.Seq(1)
	for next <= erase {
		p, err := inbox.New(s).Pull(context.Background(), "bob", inbox.PullRequest{Conversation: "d:alice:bob", From: next, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range p.Entries {
			e, err := wire.ParseEntry("d:alice:bob", data.Data)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == pim.EntryMessage {
				count++
			}
			want := e.Sender == "alice" && (e.Seq <= last || e.Kind == pim.EntryEdit)
			if e.Seq != next || e.Count != count || e.Erased != want || want != (len(e.Payload) == 0) && e.Kind != pim.EntryErase {
				t.Fatalf("seq %d: seq %d, %s by %s, count %d, erased %t, payload of %d bytes", next, e.Seq, e.Kind, e.Sender, e.Count, e.Erased, len(e.Payload))
			}
			next++
		}
		for _, data := range p.Folds {
			if f, err := wire.ParseFold(data.Data); err != nil || f.Edit.Seq != 0 || f.Upto != erase {
				t.Errorf("%v %+v", err, f)
			}
		}
	}
	p, err := inbox.New(s).Pull(context.Background(), "bob", inbox.PullRequest{Conversation: "d:alice:bob", From: 1, Changes: true})
	if err != nil || len(p.Erasures) != 1 || p.Erasures[0] != (pim.Erasure{By: "alice", UpTo: last}) {
		t.Errorf("%v %v", p.Erasures, err)
	}
}
