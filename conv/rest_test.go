package conv_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// snapshots counts the snapshots that are written.
type snapshots struct {
	store.Store
	n atomic.Int64
}

func (s *snapshots) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		for _, c := range w.Cells {
			if strings.HasPrefix(string(c.Partition), "state/") && c.Key == "snapshot" {
				s.n.Add(1)
			}
		}
	}
	s.Store.Begin(ctx, writes, d, done)
}

// sends sends n messages of u to its conversation with each of chats users, and waits.
func sends(t *testing.T, w *conv.Writers, rec *recorder, u pim.UserID, chats, n int) {
	t.Helper()
	for range n {
		var batch []*conv.Request
		for i := range chats {
			r := message(pim.Direct(u, pim.UserID(fmt.Sprint("u", i))), u, "")
			r.ClientID, r.Local = pim.NewClientMessageID(time.Now()), pim.MillisOf(time.Now())
			batch = append(batch, rec.track(r))
		}
		w.Submit(batch)
		for _, r := range batch {
			if a := rec.wait(r); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
	}
}

// A conversation in which nothing happens for a while gets a snapshot, and so does one that was just
// written to when the writers are closed at rest. A load reads nothing behind it, and the first message after that
// writes nothing again.
func TestAConversationAtRestHasASnapshot(t *testing.T) {
	t.Run("nothing happens for a while", func(t *testing.T) { leavesNothing(t, 20*time.Second) })
	t.Run("the writers are closed at rest", func(t *testing.T) { leavesNothing(t, 0) })
}

func leavesNothing(t *testing.T, rest time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		st, rec := &reads{Store: storetest.NewMemory()}, newRecorder()
		options := conv.Options{Outlet: rec, Shards: 1, Logger: quiet()}
		w := conv.New(st, options)
		sends(t, w, rec, "ann", 1, 90)
		time.Sleep(rest)
		synctest.Wait()
		if rest == 0 {
			w.CloseAtRest()
		} else {
			w.Close()
		}
		time.Sleep(10 * time.Second) // a message of the same moment may be one of these
		st.calls.Store(0)
		st.lasts.Store(0)
		st.records.Store(0)
		w = conv.New(st, options)
		defer w.Close()
		sends(t, w, rec, "ann", 1, 1)
		if calls, records := st.calls.Load()-st.lasts.Load(), st.records.Load(); calls != 1 || records != 0 {
			t.Errorf("a load made %d reads, of %d entries, want one of none", calls, records)
		}
	})
}

// A snapshot at rest is for 24 messages at least: messages that come rarely have no more of them.
func TestFewSnapshotsAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, rec := &snapshots{Store: storetest.NewMemory()}, newRecorder()
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		defer w.Close()
		const messages = 480
		for range messages {
			sends(t, w, rec, "ann", 1, 1)
			time.Sleep(2 * time.Minute)
		}
		synctest.Wait()
		// Besides these there is one after each 48 messages.
		if n := st.n.Load(); n < messages/24 || n > messages/24+messages/48 {
			t.Errorf("%d snapshots of %d messages", n, messages)
		}
	})
}

// A snapshot is for 48 messages at least, or for a batch that is longer than that, and there is none more after a long
// batch: what stands behind the last one is bounded without a write for each message.
func TestFewSnapshotsUnderLoad(t *testing.T) {
	for _, test := range []struct{ batches, each, snapshots int }{
		{480, 1, 9},   // one with the first message of each 48 but the first 48
		{48, 10, 9},   // one with each fifth batch, of the 50 before
		{24, 20, 7},   // one with each third batch, of the 60 before
		{10, 100, 10}, // one after each batch
		{3, 1000, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			st, rec := &snapshots{Store: storetest.NewMemory()}, newRecorder()
			w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
			defer w.Close()
			for range test.batches {
				if err := sendsAtOnce(w, rec, test.each); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if n := st.n.Load(); n != int64(test.snapshots) {
				t.Errorf("%d snapshots of %d batches of %d messages, want %d", n, test.batches, test.each, test.snapshots)
			}
		})
	}
}

// sendsAtOnce has ann write n messages to bob, and returns the first error of their answers.
func sendsAtOnce(w *conv.Writers, rec *recorder, n int) error {
	var batch []*conv.Request
	for range n {
		r := message(pim.Direct("ann", "bob"), "ann", "")
		r.ClientID, r.Local = pim.NewClientMessageID(time.Now()), pim.MillisOf(time.Now())
		batch = append(batch, rec.track(r))
	}
	w.Submit(batch)
	for _, r := range batch {
		if a := rec.wait(r); a.Err != nil {
			return a.Err
		}
	}
	return nil
}

// If the store takes none of the snapshots that are written alone but the first few, the tail stays short enough to be loaded all the same.
func TestSnapshotsThatAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, rec := storetest.NewMemory(), newRecorder()
		w := conv.New(&unrelaxed{Store: st}, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		for range 200 {
			if err := sendsAtOnce(w, rec, 100); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		w.Close()
		w = conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		defer w.Close()
		if err := sendsAtOnce(w, rec, 1); err != nil {
			t.Errorf("the first message after a restart: %v", err)
		}
	})
}

// unrelaxed is a store that has room for few relaxed writes.
type unrelaxed struct {
	store.Store
	begun atomic.Int64
}

func (s *unrelaxed) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	if d != store.Relaxed || s.begun.Add(1) <= 2 {
		s.Store.Begin(ctx, writes, d, done)
		return
	}
	for _, w := range writes {
		w.Err = pim.Errorf(pim.KindOverloaded, "no room")
		done(w)
	}
}

// Conversations that come to rest together get their snapshots one after the other, and those that
// have theirs are not looked at again.
func TestManyComeToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, rec := &snapshots{Store: storetest.NewMemory()}, newRecorder()
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		defer w.Close()
		const chats = 300
		sends(t, w, rec, "ann", chats, 30)
		synctest.Wait()
		if n := st.n.Load(); n != 0 {
			t.Fatalf("%d snapshots of conversations of 30 messages", n)
		}
		begun, before := time.Now(), int64(0)
		for before < chats {
			time.Sleep(40 * time.Millisecond)
			synctest.Wait()
			n := st.n.Load()
			if n-before > 64 {
				t.Fatalf("%d snapshots at a time", n-before)
			}
			if before = n; time.Since(begun) > 2*time.Minute {
				t.Fatalf("%d of %d have a snapshot after two minutes", n, chats)
			}
		}
		time.Sleep(time.Hour)
		sends(t, w, rec, "ann", chats, 30) // each moves to the other end of the list
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := st.n.Load(); n != 2*chats {
			t.Errorf("%d snapshots, want %d", n, 2*chats)
		}
	})
}

// Writers that are closed at rest write the snapshots that are due, and none if nothing may be written any more.
func TestSnapshotsAtClose(t *testing.T) {
	for name, test := range map[string]struct {
		gate func() error
		want int64
	}{
		"open":   {nil, 40},
		"closed": {func() error { return pim.Errorf(pim.KindUnavailable, "no writes") }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			st, rec := &snapshots{Store: storetest.NewMemory()}, newRecorder()
			var shut atomic.Bool
			o := conv.Options{Outlet: rec, Shards: 2, Logger: quiet()}
			if test.gate != nil {
				o.Gate = func() error {
					if shut.Load() {
						return test.gate()
					}
					return nil
				}
			}
			w := conv.New(st, o)
			sends(t, w, rec, "ann", 40, 30) // due
			sends(t, w, rec, "bob", 40, 20) // not due
			shut.Store(true)
			w.CloseAtRest()
			if n := st.n.Load(); n != test.want {
				t.Errorf("%d snapshots, want %d", n, test.want)
			}
		})
	}
}

// held is a store that keeps some writes until free is closed.
type held struct {
	store.Store
	holds func(*store.Write) bool
	free  chan struct{}
}

func (h *held) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if !h.holds(w) {
			h.Store.Begin(ctx, []*store.Write{w}, d, done)
			continue
		}
		go func() {
			<-h.free
			h.Store.Begin(context.WithoutCancel(ctx), []*store.Write{w}, d, done)
		}()
	}
}

func isSnapshot(w *store.Write) bool { return len(w.Cells) == 1 && w.Cells[0].Key == "snapshot" }

// A store that does not end the last snapshots holds up the end of the writers for a second. What it ends later is there, and does no harm.
func TestStoreThatHangsAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, rec := &snapshots{Store: storetest.NewMemory()}, newRecorder()
		st := &held{Store: written, holds: isSnapshot, free: make(chan struct{})}
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 2, Logger: quiet()})
		sends(t, w, rec, "ann", 40, 30)
		begun := time.Now()
		go func() { // a driver that waits without end would wait for this
			time.Sleep(time.Minute)
			close(st.free)
		}()
		w.CloseAtRest()
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the writers took %s to end", took)
		}
		<-st.free
		synctest.Wait()
		if n := written.n.Load(); n != 40 {
			t.Errorf("%d snapshots were written later, want 40", n)
		}
	})
}

// What the first call of Close and CloseAtRest says holds, whoever calls the other one while the drivers still wait for a write.
func TestTheFirstCloseDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		written, rec := &snapshots{Store: storetest.NewMemory()}, newRecorder()
		var holds atomic.Bool
		st := &held{Store: written, holds: func(w *store.Write) bool { return holds.Load() && !isSnapshot(w) }, free: make(chan struct{})}
		w := conv.New(st, conv.Options{Outlet: rec, Shards: 1, Logger: quiet()})
		sends(t, w, rec, "ann", 1, 30)
		holds.Store(true)
		r := message(pim.Direct("ann", "u0"), "ann", "")
		r.ClientID, r.Local = pim.NewClientMessageID(time.Now()), pim.MillisOf(time.Now())
		w.Submit([]*conv.Request{rec.track(r)})
		synctest.Wait() // its write is under way
		go w.Close()
		synctest.Wait()
		go w.CloseAtRest()
		synctest.Wait()
		close(st.free)
		w.Close()
		if n := written.n.Load(); n != 0 {
			t.Errorf("%d snapshots were written, although the writers were not closed at rest", n)
		}
	})
}
