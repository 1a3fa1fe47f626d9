package pebble_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// clock is set by the test.
type clock struct{ at atomic.Pointer[time.Time] }

func (c *clock) set(t time.Time) { c.at.Store(&t) }
func (c *clock) now() time.Time  { return *c.at.Load() }

// TestExpiry moves the clock from hour to hour over two weeks. A cell is there
// until it expires, and gone a week and a sweep later, whether the store was
// opened again in between or not.
func TestExpiry(t *testing.T) {
	const lifetime = 7 * 24 * time.Hour
	ctx := context.Background()
	start := time.Date(2026, 7, 1, 11, 30, 0, 0, time.UTC)
	for _, reopened := range []bool{false, true} {
		c := &clock{}
		c.set(start)
		o := small(vfs.NewMem())
		o.Now = c.now
		s := open(t, "db", o)
		w := &store.Write{Cells: []store.CellWrite{
			{Partition: "p", Cell: store.Cell{Key: "expires", Version: 1}, Expires: pim.MillisOf(start.Add(lifetime))},
			{Partition: "p", Cell: store.Cell{Key: "stays", Version: 1}},
		}}
		if err := s.Commit(ctx, []*store.Write{w}, store.Durable); err != nil {
			t.Fatal(err)
		}
		for now := start; now.Before(start.Add(3 * lifetime)); now = now.Add(time.Hour) {
			c.set(now)
			if reopened && now.Sub(start)%(20*time.Hour) == 0 {
				closes(t, s)
				s = open(t, "db", o)
			}
			if err := s.Sweep(); err != nil {
				t.Fatal(err)
			}
			there := get(t, s, "p", "expires").Version == 1
			if !there && now.Before(start.Add(lifetime)) {
				t.Fatalf("gone after %v", now.Sub(start))
			}
			if there && now.After(start.Add(2*lifetime+time.Hour)) {
				t.Fatalf("still there after %v", now.Sub(start))
			}
			if get(t, s, "p", "stays").Version != 1 {
				t.Fatal("a cell that does not expire is gone")
			}
		}
		if err := s.Compact(); err != nil {
			t.Fatal(err)
		}
		if n := s.Keys('e'); n != 0 {
			t.Errorf("%d expired cells are on the disk", n)
		}
		closes(t, s)
	}
}

// A clock that is a month ahead when the store is opened, and then set, makes it
// forget nothing.
func TestWrongClockAtTheStart(t *testing.T) {
	c := &clock{}
	start := time.Date(2026, 7, 1, 11, 30, 0, 0, time.UTC)
	c.set(start)
	o := small(vfs.NewMem())
	o.Now = c.now
	s := open(t, "db", o)
	w := &store.Write{Cells: []store.CellWrite{
		{Partition: "p", Cell: store.Cell{Key: "k", Version: 1}, Expires: pim.MillisOf(start.Add(7 * 24 * time.Hour))},
	}}
	if err := s.Commit(context.Background(), []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	c.set(start.Add(30 * 24 * time.Hour))
	s = open(t, "db", o)
	defer closes(t, s)
	if get(t, s, "p", "k").Version != 1 {
		t.Error("it is not seen while the clock is wrong")
	}
	c.set(start.Add(time.Hour))
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if get(t, s, "p", "k").Version != 1 {
		t.Error("it is gone an hour after it was written")
	}
}

// TestExpiredIsNotWritten checks that a cell that comes too late takes no room.
func TestExpiredIsNotWritten(t *testing.T) {
	s := open(t, "db", pebble.Options{FS: vfs.NewMem()})
	defer closes(t, s)
	w := &store.Write{Cells: []store.CellWrite{
		{Partition: "p", Cell: store.Cell{Key: "k", Version: 1}, Expires: pim.MillisOf(time.Now()) - 1},
		{Partition: "p", Cell: store.Cell{Key: "l", Version: 1}, Expires: -1},
	}}
	if err := s.Commit(context.Background(), []*store.Write{w}, store.Durable); err != nil || s.Keys('e') != 0 {
		t.Fatalf("%v, %d keys", err, s.Keys('e'))
	}
}
