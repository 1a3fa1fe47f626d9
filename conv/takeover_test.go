package conv_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// A writer that takes a conversation over knows as much of the log's end as the writer before.
// Late resends get the same anchors as with a single writer, in a busy conversation, which
// has many entries in its last three minutes, and in a quiet one.
func TestAnchorsAfterATakeOver(t *testing.T) {
	n := seeds.First(t)
	for i, pace := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		rng := rand.New(rand.NewPCG(n, uint64(i)))
		var now atomic.Int64
		now.Store(1_795_000_000_000)
		mem, rec := storetest.NewMemory(), newRecorder()
		options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet(), Now: func() time.Time { return time.UnixMilli(now.Load()) }}
		w := conv.New(mem, options)
		chat := pim.Direct("u0", "u1")
		for j := range 12_000 {
			now.Add(rng.Int64N(2 * pace.Milliseconds()))
			r := message(chat, pim.UserID(fmt.Sprint("u", rng.IntN(2))), "")
			if r.Local = pim.Millis(now.Load()); rng.IntN(50) == 0 {
				r.Local -= pim.Millis(rng.Int64N(200_000))
			}
			r = rec.track(r)
			w.Submit([]*conv.Request{r})
			if a := rec.wait(r); a.Err != nil {
				t.Fatal(a.Err)
			}
			if j%1000 == 999 {
				w.Close()
				w = conv.New(mem, options)
			}
		}
		w.Close()
		entries, err := readLog(mem, chat)
		if err != nil {
			t.Fatal(err)
		}
		rule := map[pim.UserID]*pim.Anchors{"u0": {}, "u1": {}}
		for _, e := range entries {
			if want := rule[e.Sender].Next(e.Seq, e.Local, e.Server); e.Anchor != want {
				t.Fatalf("an entry every %v: anchor of seq %d is %d, want %d", pace, e.Seq, e.Anchor, want)
			}
		}
	}
}

// onlyIDs is a store that writes the records and the cells of client message IDs, and loses all
// other cells and the answers.
type onlyIDs struct{ store.Store }

func (s onlyIDs) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, func(ctx context.Context, writes []*store.Write, d store.Durability) error {
		return unanswered(ctx, s.Store, writes, d, func(w store.Write) store.Write {
			return withCells(w, func(c store.CellWrite) bool { return strings.HasPrefix(string(c.Partition), "dedup/") })
		})
	}, writes, d, done)
}

// A writer looks an ID up and finds an entry that another writer has appended since. It
// acknowledges that entry only when the entry's offline lists are written.
func TestARepeatThatIsNewerThanTheState(t *testing.T) {
	mem, rec := storetest.NewMemory(), newRecorder()
	chat, old := pim.Direct("alice", "bob"), time.Now().Add(-1000*time.Hour)
	var sent [2]*conv.Request
	for i := range sent { // their IDs are strange, so each has a cell of its own
		sent[i] = message(chat, "alice", fmt.Sprint(i))
		sent[i].ClientID = pim.NewClientMessageID(old)
	}
	w := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	if _, err := persist(w, rec, sent[0]); err != nil {
		t.Fatal(err)
	}
	other := conv.New(onlyIDs{mem}, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	r := rec.track(sent[1])
	other.Submit([]*conv.Request{r})
	if a := rec.wait(r); !errors.Is(a.Err, store.ErrUnknown) {
		t.Fatalf("answered with %+v", a)
	}
	other.Close()
	if a, err := persist(w, rec, sent[1]); err != nil || !a.Duplicate || a.Seq != 2 {
		t.Fatalf("answered with %+v, %v", a, err)
	}
	entries, err := readLog(mem, chat)
	if err == nil {
		err = everyLineIsThere(mem, chat, entries)
	}
	if err != nil {
		t.Error(err)
	}
}

// A conversation may be taken over for every entry, because the node restarts or has too many
// others in memory. Each time costs the same, however long the log is.
func TestTakeOversDoNotAddUp(t *testing.T) {
	const recentIDs = 1024
	mem, rec := storetest.NewMemory(), newRecorder()
	open := make(chan struct{})
	close(open)
	chat := pim.Direct("alice", "bob")
	w := conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	var sent []*conv.Request
	for i := range recentIDs + 100 {
		sent = append(sent, rec.track(message(chat, "alice", fmt.Sprint(i))))
		w.Submit(sent[i:])
		rec.wait(sent[i])
	}
	w.Close()
	cells := 0
	for range 400 {
		st := &watched{Store: mem, open: open}
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		if _, err := persist(w, rec, message(chat, "bob", "again")); err != nil {
			t.Fatal(err)
		}
		w.Close()
		_, most := st.largest()
		cells = max(cells, most)
	}
	if cells > 300 {
		t.Errorf("one entry came with %d cells", cells)
	}
	w = conv.New(mem, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
	defer w.Close()
	for i, r := range sent {
		if a, err := persist(w, rec, r); err != nil || !a.Duplicate || a.Seq != pim.Seq(i+1) {
			t.Fatalf("message %d is answered with %+v, %v", i+1, a, err)
		}
	}
}
