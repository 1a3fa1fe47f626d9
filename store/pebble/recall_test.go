package pebble_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store/pebble"
	"github.com/pim-im/pim/wire"
)

// answers is an Outlet for one request at a time.
type answers chan conv.Answer

func (a answers) Deliver(given []conv.Answer, _ []conv.Published) {
	for i := range given {
		a <- given[i]
	}
}

// sender sends to d:alice:bob.
type sender struct {
	*conv.Writers
	t    *testing.T
	told answers
	n    uint64
}

func newSender(t *testing.T, s *pebble.Store) *sender {
	told := make(answers, 1024)
	return &sender{t: t, told: told, Writers: conv.New(s, conv.Options{Outlet: told, Logger: slog.New(slog.DiscardHandler)})}
}

func (s *sender) request(by pim.UserID, kind pim.EntryKind, refers pim.Seq, payload []byte) *conv.Request {
	s.n++
	r := &conv.Request{
		Conversation: "d:alice:bob", Kind: kind, Sender: by, Device: "d", Local: pim.MillisOf(time.Now()),
		Refers: refers, Payload: payload,
	}
	binary.BigEndian.PutUint64(r.ClientID[:], uint64(r.Local)<<16)
	binary.BigEndian.PutUint64(r.ClientID[8:], s.n)
	return r
}

// submit returns the seq of an entry.
func (s *sender) submit(by pim.UserID, kind pim.EntryKind, refers pim.Seq, payload []byte) pim.Seq {
	s.t.Helper()
	s.Submit([]*conv.Request{s.request(by, kind, refers, payload)})
	a := <-s.told
	if a.Err != nil {
		s.t.Fatal(a.Err)
	}
	return a.Seq
}

// The payload of a message that was recalled, and those of its edits, are in no file of the store
// once it has purged its files, neither in the log nor in the fold. The entries are
// there, erased, and other messages are as they were.
func TestARecallLeavesNoBytes(t *testing.T) {
	fs := vfs.NewMem()
	o := pebble.Options{FS: fs, Logger: quiet()}
	s := open(t, "db", o)
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	w := newSender(t, s)
	submit := func(kind pim.EntryKind, refers pim.Seq, payload []byte) pim.Seq {
		t.Helper()
		return w.submit("alice", kind, refers, payload)
	}
	var gone, stay [][]byte
	var recalled []pim.Seq
	for _, size := range []int{40, 3000, 60_000} { // in place, apart, and of several chunks
		for _, keep := range []bool{false, true} {
			var marks [][]byte
			message, mark := marked(rng, size)
			marks = append(marks, mark)
			seq := submit(pim.EntryMessage, 0, message)
			for range 2 {
				edit, mark := marked(rng, size)
				marks = append(marks, mark)
				submit(pim.EntryEdit, seq, edit)
			}
			if keep {
				stay = append(stay, marks...)
				continue
			}
			gone, recalled = append(gone, marks...), append(recalled, seq, seq+1, seq+2)
		}
	}
	sinks(t, s)
	if n := holding(t, fs, "db", ".sst", append(gone, stay...)); n != len(gone)+len(stay) {
		t.Fatalf("the tables hold %d of %d payloads", n, len(gone)+len(stay))
	}
	for i := 0; i < len(recalled); i += 3 {
		submit(pim.EntryRecall, recalled[i], nil)
	}
	w.Close()
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer closes(t, s)
	if n := holding(t, fs, "db", "", gone); n != 0 {
		t.Errorf("the files hold %d of %d recalled payloads", n, len(gone))
	}
	if n := holding(t, fs, "db", "", stay); n != len(stay) {
		t.Errorf("the files hold %d of %d payloads that were not recalled", n, len(stay))
	}
	p, err := inbox.New(s).Pull(context.Background(), "bob", inbox.PullRequest{Conversation: "d:alice:bob"})
	if err != nil {
		t.Fatal(err)
	}
	erased := 0
	for _, data := range p.Entries {
		e, err := wire.ParseEntry("d:alice:bob", data.Data)
		if err != nil {
			t.Fatal(err)
		}
		if e.Erased {
			erased++
		}
		if e.Erased && (len(e.Payload) > 0 || e.Sender != "alice" || e.ClientID.IsZero() || e.Server == 0 || e.Count == 0) {
			t.Errorf("%+v", e)
		}
	}
	if erased != len(recalled) || len(p.Folds) != 6 {
		t.Errorf("%d entries are erased, %d were recalled; %d folds", erased, len(recalled), len(p.Folds))
	}
}
