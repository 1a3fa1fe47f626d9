package conv_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

const days = pim.Millis(24 * 3600 * 1000)

func retainFor(c pim.ConversationID, from pim.UserID, age pim.Millis) *conv.Request {
	r := message(c, from, "")
	r.Kind, r.Payload, r.Retain = pim.EntryRetain, nil, age
	return r
}

// retained returns for how long the entries of c are kept, and the seq of the entry that says so.
func retained(t *testing.T, s store.Store, c pim.ConversationID) (age pim.Millis, seq pim.Seq) {
	t.Helper()
	cell, _, err := store.Lookup(t.Context(), s, inbox.Retained(inbox.LogsOf(c)), string(c))
	if err != nil {
		t.Fatal(err)
	}
	r, err := inbox.ParseRetainCell(cell)
	if err != nil {
		t.Fatal(err)
	}
	return r.Age, pim.Seq(cell.Version)
}

// The owner of a group and either user of a direct conversation say for how long entries are kept;
// nobody else does, and for less than seven days nobody. It counts as no message, and holds when
// the entry is trimmed.
func TestWhoSaysForHowLongEntriesAreKept(t *testing.T) {
	st, rec := storetest.NewMemory(), newRecorder()
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	a, err := persist(w, rec, inGroup("", pim.EntryCreate, "zed", "alice", "bob"))
	if err != nil {
		t.Fatal(err)
	}
	group, direct := a.Request.Conversation, pim.Direct("alice", "bob")
	payload, onMessage := retainFor(direct, "alice", 30*days), message(direct, "alice", "")
	payload.Payload, onMessage.Retain = []byte("x"), 30*days
	for _, test := range []struct {
		r    *conv.Request
		want pim.Kind
		age  pim.Millis
	}{
		{retainFor(group, "zed", 30*days), 0, 30 * days},
		{retainFor(group, "alice", 60*days), pim.KindForbidden, 30 * days},
		{retainFor(group, "carol", 60*days), pim.KindNotMember, 30 * days},
		{inGroup(group, pim.EntryLeave, "zed"), 0, 30 * days},
		{retainFor(group, "bob", 60*days), pim.KindForbidden, 30 * days},
		{retainFor(group, "alice", 7*days), 0, 7 * days},
		{retainFor(group, "alice", 7*days-1), pim.KindInvalid, 7 * days},
		{retainFor(group, "alice", 1<<60), pim.KindInvalid, 7 * days},
		{retainFor(group, "alice", -1), pim.KindInvalid, 7 * days},
		{retainFor(group, "alice", 0), 0, 0},
		{retainFor(direct, "bob", 8*days), 0, 8 * days},
		{retainFor(direct, "alice", 9*days), 0, 9 * days},
		{payload, pim.KindInvalid, 9 * days},
		{onMessage, pim.KindInvalid, 9 * days},
		{retainFor(pim.Own("alice"), "alice", 9*days), pim.KindInvalid, 0},
	} {
		a, err := persist(w, rec, test.r)
		if pim.KindOf(err) != test.want || err == nil && a.Count != 0 {
			t.Errorf("%+v: %+v, %v", test.r, a, err)
		}
		if age, _ := retained(t, st, test.r.Conversation); age != test.age {
			t.Errorf("after %+v entries are kept for %d", test.r, age)
		}
	}
	trimmed(t, w, direct, 2)
	if _, err := persist(w, rec, message(direct, "bob", "on")); err != nil {
		t.Fatal(err)
	}
	if age, seq := retained(t, st, direct); age != 9*days || seq != 2 {
		t.Errorf("after a trim entries are kept for %d by seq %d", age, seq)
	}
}

// A process died after the append of a retain and before its cell. Who writes next, or trims, writes
// the cell.
func TestARetainThatWasOnlyAppended(t *testing.T) {
	for _, trim := range []bool{false, true} {
		st, rec := &severed{Store: storetest.NewMemory()}, newRecorder()
		c := pim.Direct("alice", "bob")
		begin := func() *conv.Writers { return conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}) }
		w := begin()
		if _, err := persist(w, rec, message(c, "alice", "")); err != nil {
			t.Fatal(err)
		}
		st.next.Store(true)
		r := rec.track(retainFor(c, "alice", 30*days))
		w.Submit([]*conv.Request{r})
		if a := rec.wait(r); a.Err == nil {
			t.Fatal("a dead process has answered")
		}
		w.Close()
		st.next.Store(false)
		st.dead.Store(false)
		w = begin()
		if trim {
			trimmed(t, w, c, 2)
		} else if _, err := persist(w, rec, message(c, "bob", "")); err != nil {
			t.Fatal(err)
		}
		if age, seq := retained(t, st, c); age != 30*days || seq != 2 {
			t.Errorf("trimmed %v: entries are kept for %v by seq %d", trim, time.Duration(age)*time.Millisecond, seq)
		}
		w.Close()
	}
}

// A shorter time than what holds waits for its notice, whichever writer takes it: one that has the
// conversation in memory, one that loads it, and one that writes again what another has only
// appended.
func TestAShorterTimeWaitsForItsNotice(t *testing.T) {
	const notice = 24 * time.Hour
	st, rec := &severed{Store: storetest.NewMemory()}, newRecorder()
	c := pim.Direct("alice", "bob")
	var now atomic.Int64 // in ms
	now.Store(1_700_000_000_000)
	later := func(d time.Duration) { now.Add(d.Milliseconds()) }
	ends := func() pim.Millis { return pim.Millis(now.Load() + notice.Milliseconds()) }
	begin := func() *conv.Writers {
		return conv.New(st, conv.Options{
			Outlet: rec, Shards: 1, Logger: quiet(), RetainNotice: notice, Now: func() time.Time { return time.UnixMilli(now.Load()) },
		})
	}
	w := begin()
	says := func(age pim.Millis) {
		t.Helper()
		if _, err := persist(w, rec, retainFor(c, "alice", age)); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() { w.Close(); w = begin() }
	want := func(r pim.Retention) {
		t.Helper()
		cell, _, err := store.Lookup(t.Context(), st, inbox.Retained(inbox.LogsOf(c)), string(c))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := inbox.ParseRetainCell(cell); err != nil || got != r {
			t.Errorf("the cell says %+v, want %+v, %v", got, r, err)
		}
	}
	from := ends()
	says(30 * days)
	want(pim.Retention{Age: 30 * days, From: from})
	later(notice)
	restart()
	says(10 * days)
	from = ends()
	want(pim.Retention{Age: 10 * days, Before: 30 * days, From: from})
	later(time.Hour)
	says(10 * days)
	want(pim.Retention{Age: 10 * days, Before: 30 * days, From: from})
	restart()
	says(0)
	want(pim.Retention{})
	says(20 * days)
	from = ends()
	want(pim.Retention{Age: 20 * days, From: from})

	later(2 * time.Hour)
	st.next.Store(true) // the process dies after the append, and before the cell
	r := rec.track(retainFor(c, "alice", 8*days))
	w.Submit([]*conv.Request{r})
	if a := rec.wait(r); a.Err == nil {
		t.Fatal("a dead process has answered")
	}
	want(pim.Retention{Age: 20 * days, From: from})
	w.Close()
	st.next.Store(false)
	st.dead.Store(false)
	from = ends()
	later(3 * time.Hour)
	w = begin()
	defer func() { w.Close() }()
	if _, err := persist(w, rec, message(c, "bob", "")); err != nil {
		t.Fatal(err)
	}
	want(pim.Retention{Age: 8 * days, From: from})
	says(9 * days)
	want(pim.Retention{Age: 9 * days, From: from})
}
