package conv_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// recordCount counts the records that are read from one log.
type recordCount struct {
	store.Store
	log     store.Log
	records atomic.Int64
}

func (s *recordCount) Read(ctx context.Context, reads []store.Read) error {
	err := s.Store.Read(ctx, reads)
	for i := range reads {
		if reads[i].Log == s.log {
			s.records.Add(int64(len(reads[i].Records)))
		}
	}
	return err
}

func erase(c pim.ConversationID, by pim.UserID, upTo pim.Seq) *conv.Request {
	r := message(c, by, "")
	r.Kind, r.Refers, r.Payload = pim.EntryErase, upTo, nil
	return r
}

// However often a user erases, the records of a log are read once for that: another erase begins
// where the last one ended. One that would erase nothing gets no entry, and what it has read is not
// read again.
func TestErasesReadEachRecordOnce(t *testing.T) {
	chat := pim.Direct("ann", "bob")
	s, rec := &recordCount{Store: storetest.NewMemory(), log: inbox.Entries(chat)}, newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	const bobs = 10_000
	send := func(r *conv.Request) {
		t.Helper()
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(upTo pim.Seq) {
		t.Helper()
		if _, err := persist(w, rec, erase(chat, "ann", upTo)); pim.KindOf(err) != pim.KindNotFound || !strings.Contains(err.Error(), "nothing is left to erase") {
			t.Fatalf("an erase of nothing up to seq %d: %v", upTo, err)
		}
	}
	read := func(f func()) int64 {
		was := s.records.Load()
		f()
		return s.records.Load() - was
	}
	var many []*conv.Request
	for range bobs {
		many = append(many, rec.track(message(chat, "bob", "what bob says")))
	}
	w.Submit(many)
	for _, r := range many {
		if a := rec.wait(r); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	if n := read(func() { nothing(bobs) }); n < bobs || n > bobs+10 {
		t.Errorf("%d records are read to find nothing among %d", n, bobs)
	}
	first := message(chat, "ann", "secret") // at bobs+1
	send(first)
	for upTo := range pim.Seq(3) {
		if n := read(func() { nothing(bobs - upTo) }); n > 10 {
			t.Errorf("%d records are read to find nothing up to seq %d again", n, bobs-upTo)
		}
	}
	x := erase(chat, "ann", bobs+1) // at bobs+2
	if n := read(func() { send(x) }); n > 10 {
		t.Errorf("%d records are read to erase seq %d", n, bobs+1)
	}
	nothing(bobs + 2)
	if a, err := persist(w, rec, x); err != nil || a.Seq != bobs+2 || !a.Duplicate {
		t.Errorf("an erase that is sent again: %+v, %v", a, err)
	}
	if last, _, err := store.LogEnd(t.Context(), s, inbox.Entries(chat)); err != nil || last != bobs+2 {
		t.Errorf("the log ends at seq %d, %v", last, err)
	}
}

// Who has left a group, or was removed, erases what they wrote there, also when nobody is left. They
// are not told where that stands. Strangers erase nothing.
func TestWhoHasLeftErases(t *testing.T) {
	s, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	send := func(r *conv.Request) conv.Answer {
		t.Helper()
		a, err := persist(w, rec, r)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	refused := func(r *conv.Request, kind pim.Kind) {
		t.Helper()
		if _, err := persist(w, rec, r); pim.KindOf(err) != kind {
			t.Errorf("%s by %s up to seq %d: %v, want %s", r.Kind, r.Sender, r.Refers, err, kind)
		}
	}
	leave := func(by, who pim.UserID) {
		t.Helper()
		r := message(theGroup, by, "")
		r.Kind, r.Payload, r.Members = pim.EntryLeave, nil, []pim.UserID{who}
		send(r)
	}
	erased := func(want ...pim.Seq) {
		t.Helper()
		entries, err := readLog(s, theGroup)
		if err != nil {
			t.Fatal(err)
		}
		var got []pim.Seq
		for i := range entries {
			if e := &entries[i]; e.Erased {
				got = append(got, e.Seq)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("seqs %v are erased, want %v", got, want)
		}
	}
	send(&conv.Request{Kind: pim.EntryCreate, Sender: "u0", ClientID: pim.ClientMessageID{1}, Members: []pim.UserID{"u1"}}) // 1
	send(message(theGroup, "u0", "what the owner says"))                                                                    // 2
	send(message(theGroup, "u1", "what the member says"))                                                                   // 3
	leave("u0", "u1")                                                                                                       // 4
	send(message(theGroup, "u0", "what the member does not read"))                                                          // 5
	refused(message(theGroup, "u1", "I am no member"), pim.KindNotMember)
	refused(erase(theGroup, "u1", 5), pim.KindNotFound)
	refused(erase(theGroup, "u9", 3), pim.KindNotMember)
	x := erase(theGroup, "u1", 4) // 6
	for _, again := range []bool{false, true} {
		if a := send(x); a.Seq != 0 || a.Count != 0 || a.Server != 0 || a.Duplicate != again {
			t.Errorf("who has left is told %+v, again: %t", a, again)
		}
	}
	erased(3)
	refused(erase(theGroup, "u1", 4), pim.KindNotFound)
	leave("u0", "u0") // 7
	send(erase(theGroup, "u0", 7))
	erased(2, 3, 5)
}

// Erases that one user sends at once read each record once together, and a few more each.
func TestErasesAtOnceReadEachRecordOnce(t *testing.T) {
	chat := pim.Direct("ann", "bob")
	s := &recordCount{Store: storetest.NewMemory(), log: inbox.Entries(chat)}
	rec := newRecorder()
	w := conv.New(s, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	submit := func(n int, make func() *conv.Request) (all []*conv.Request) {
		for range n {
			all = append(all, rec.track(make()))
		}
		w.Submit(all)
		return all
	}
	var last pim.Seq
	for _, r := range submit(5000, func() *conv.Request { return message(chat, "ann", "x") }) {
		last = rec.wait(r).Seq
	}
	s.records.Store(0)
	const erases = 50
	for _, r := range submit(erases, func() *conv.Request { return erase(chat, "bob", last) }) {
		if err := rec.wait(r).Err; pim.KindOf(err) != pim.KindNotFound {
			t.Error(err)
		}
	}
	if n, few := s.records.Load(), int64(64); n > int64(2*last)+erases*few {
		t.Errorf("%d erases read %d records of %d", erases, n, last)
	}
}
