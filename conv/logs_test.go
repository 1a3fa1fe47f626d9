package conv_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// listed returns what the index of logs says of c, and whether it has c.
func listed(t *testing.T, s store.Store, c pim.ConversationID) (front pim.Seq, oldest pim.Millis, ok bool) {
	t.Helper()
	cell, ok, err := store.Lookup(t.Context(), s, inbox.Logs(inbox.LogsOf(c)), string(c))
	if err != nil {
		t.Fatal(err)
	}
	if front, oldest, err = inbox.ParseLogCell(cell); err != nil {
		t.Fatal(err)
	}
	return front, oldest, ok
}

// The index of logs has a conversation from its first entry on, with the time of that entry. A
// user's own log is not in it.
func TestNewLogsAreListed(t *testing.T) {
	st, rec := storetest.NewMemory(), newRecorder()
	var now atomic.Int64
	now.Store(1_795_000_000_000)
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return time.UnixMilli(now.Load()) }})
	defer w.Close()
	a, err := persist(w, rec, inGroup("", pim.EntryCreate, "alice", "bob"))
	if err != nil {
		t.Fatal(err)
	}
	group, direct := a.Request.Conversation, pim.Direct("alice", "bob")
	for _, r := range []*conv.Request{
		message(direct, "alice", "one"), message(direct, "alice", "two"), message(group, "alice", "three"),
		command("alice", "contact", pim.Command{Kind: pim.CommandContact, Subject: "bob"}),
	} {
		if _, err := persist(w, rec, r); err != nil {
			t.Fatal(err)
		}
		now.Add(60_000)
	}
	for _, c := range []pim.ConversationID{group, direct} {
		if front, oldest, ok := listed(t, st, c); !ok || front != 1 || oldest != 1_795_000_000_000 {
			t.Errorf("%s is listed: %v, with seq %d of %d", c, ok, front, oldest)
		}
	}
	if _, _, ok := listed(t, st, "u:alice"); ok {
		t.Error("an own log is listed")
	}
}

// unlisting is a store of an earlier version: it has no index of logs, and snapshots of version 3.
type unlisting struct {
	store.Store
	earlier atomic.Bool
}

func (s *unlisting) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	if !s.earlier.Load() {
		s.Store.Begin(ctx, writes, d, done)
		return
	}
	storetest.Begin(ctx, func(ctx context.Context, writes []*store.Write, d store.Durability) error {
		for _, w := range writes {
			kept := w.Cells[:0:0]
			for _, c := range w.Cells {
				if strings.HasPrefix(string(c.Partition), "logs/") {
					continue
				}
				if c.Key == "snapshot" {
					c.Value = append([]byte{3}, c.Value[1:]...)
				}
				kept = append(kept, c)
			}
			w.Cells = kept
		}
		return store.Commit(ctx, s.Store, writes, d)
	}, writes, d, done)
}

// A log of an earlier version is added to the index when it is loaded and written to, whether it
// has a snapshot or not, and when it is trimmed. A snapshot is written after that only.
func TestEarlierLogsAreListed(t *testing.T) {
	for _, n := range []int{3, 150} {
		for _, trim := range []bool{false, true} {
			st, rec := &unlisting{Store: storetest.NewMemory()}, newRecorder()
			st.earlier.Store(true)
			var w *conv.Writers
			begin := func() { w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}) }
			begin()
			c := pim.Direct("alice", "bob")
			for range n {
				if _, err := persist(w, rec, message(c, "alice", "")); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			if _, _, ok := listed(t, st, c); ok {
				t.Fatal("an earlier version has an index")
			}
			st.earlier.Store(false)
			begin()
			if trim {
				trimmed(t, w, c, 2)
			} else if _, err := persist(w, rec, message(c, "bob", "")); err != nil {
				t.Fatal(err)
			}
			if front, oldest, ok := listed(t, st, c); !ok || front != 1 || oldest != 0 {
				t.Errorf("%d entries, trimmed %v: listed %v, with seq %d of %d", n, trim, ok, front, oldest)
			}
			w.Close()
		}
	}
}

// A process died after the append of a log's first entry. Who writes to the log next lists it.
func TestALogIsListedAfterACrash(t *testing.T) {
	st, rec := &severed{Store: storetest.NewMemory()}, newRecorder()
	c := pim.Direct("alice", "bob")
	w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	st.next.Store(true)
	r := rec.track(message(c, "alice", ""))
	w.Submit([]*conv.Request{r})
	if a := rec.wait(r); a.Err == nil {
		t.Fatal("a dead process has answered")
	}
	w.Close()
	st.next.Store(false)
	st.dead.Store(false)
	w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	if _, err := persist(w, rec, message(c, "bob", "")); err != nil {
		t.Fatal(err)
	}
	if front, oldest, ok := listed(t, st, c); !ok || front != 1 || oldest != 0 {
		t.Errorf("listed: %v, with seq %d of %d", ok, front, oldest)
	}
}
