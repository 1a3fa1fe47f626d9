package retain_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/retain"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// reader is a store that counts the reads of logs, and may fail them.
type reader struct {
	store.Store
	reads atomic.Int64
	fail  func(store.Read) error
	lists func(store.Partition)
}

func (s *reader) Read(ctx context.Context, reads []store.Read) error {
	s.reads.Add(int64(len(reads)))
	err := s.Store.Read(ctx, reads)
	for i := range reads {
		if s.fail == nil {
			continue
		}
		if failed := s.fail(reads[i]); failed != nil {
			reads[i] = store.Read{Log: reads[i].Log, Err: failed}
			err = failed
		}
	}
	return err
}

func (s *reader) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	if s.lists != nil {
		s.lists(p)
	}
	return s.Store.List(ctx, p, after, limit)
}

// A sweeper reads no log whose entries are all young, or that has none left, and finds the newest
// old entry of a long one in few reads.
func TestSweepersReadLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &reader{Store: storetest.NewMemory()}
		n := newNode(t, st)
		for i := range 600 {
			n.sends(pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), "alice")
		}
		long := pim.Direct("alice", "bob")
		for range 5000 {
			n.sends(long, "alice")
		}
		o := n.options(10 * day)
		trim := o.Trim
		o.Trim = func(ctx context.Context, c pim.ConversationID, upTo pim.Seq) error {
			before := st.reads.Load()
			defer st.reads.Store(before) // those of a trim do not count
			return trim(ctx, c, upTo)
		}
		s := retain.New(o)
		before := st.reads.Load()
		time.Sleep(9 * day)
		synctest.Wait()
		if reads := st.reads.Load() - before; reads != 0 {
			t.Errorf("%d reads of young logs", reads)
		}
		n.sends(long, "bob")
		before = st.reads.Load()
		time.Sleep(2 * day)
		synctest.Wait()
		reads := st.reads.Load() - before
		if front := n.front(long); reads > 601+13 || front != 5001 { // 13 find the place in the long log
			t.Errorf("%d reads; the long log begins at %d", reads, front)
		}
		before = st.reads.Load()
		time.Sleep(5 * day)
		synctest.Wait()
		if reads := st.reads.Load() - before; reads != 0 {
			t.Errorf("%d reads of logs without old entries", reads)
		}
		s.Close()
	})
}

// calls counts what is asked of a store: calls, and what they name and return.
type calls struct {
	store.Store
	lists, listed, gets, reads, writes atomic.Int64
}

func (s *calls) List(ctx context.Context, p store.Partition, after string, limit int) ([]store.Cell, error) {
	cells, err := s.Store.List(ctx, p, after, limit)
	s.lists.Add(1)
	s.listed.Add(int64(len(cells)))
	return cells, err
}

func (s *calls) Get(ctx context.Context, gets []store.Get) error {
	s.gets.Add(int64(len(gets)))
	return s.Store.Get(ctx, gets)
}

func (s *calls) Read(ctx context.Context, reads []store.Read) error {
	s.reads.Add(int64(len(reads)))
	return s.Store.Read(ctx, reads)
}

func (s *calls) Begin(ctx context.Context, w []*store.Write, d store.Durability, done func(*store.Write)) {
	s.writes.Add(int64(len(w)))
	s.Store.Begin(ctx, w, d, done)
}

// cost is what a pass has cost: lists, cells in them, cells that were read by their keys, reads of
// logs and writes.
type cost struct{ lists, listed, gets, reads, writes int64 }

func (s *calls) spent() cost {
	return cost{s.lists.Swap(0), s.listed.Swap(0), s.gets.Swap(0), s.reads.Swap(0), s.writes.Swap(0)}
}

// pass waits until the next pass of a sweeper is over, and returns what it has cost. Its last call is a
// write.
func (s *calls) pass() cost {
	for s.writes.Load() == 0 {
		time.Sleep(time.Minute)
		synctest.Wait()
	}
	time.Sleep(time.Minute) // the next one begins half an hour later at the earliest
	synctest.Wait()
	return s.spent()
}

// What a pass costs beside 600 old conversations: nothing but a look and a note of the time if
// nobody has set a time; what belongs to those that have one, and a Retained partition's page for
// each, if some have; a list of all only if the server has one, and reads only of what is due.
func TestWhatAPassCosts(t *testing.T) {
	const conversations = 600
	start := func(t *testing.T, age time.Duration) (*node, *calls, *retain.Sweeper) {
		st := &calls{Store: storetest.NewMemory()}
		n := newNode(t, st.Store)
		for i := range conversations {
			n.sends(pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))), "alice")
		}
		o := n.options(age)
		o.Store = st // the writers' calls do not count
		s := retain.New(o)
		time.Sleep(8 * day) // older than what any conversation may say
		synctest.Wait()
		return n, st, s
	}
	is := func(t *testing.T, got, want cost) {
		t.Helper()
		if got != want {
			t.Errorf("a pass costs %+v, want %+v", got, want)
		}
	}
	t.Run("nobody", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, st, s := start(t, 0)
			defer s.Close()
			st.spent()
			for range 3 {
				is(t, st.pass(), cost{lists: 1, writes: 1})
			}
		})
	})
	t.Run("three conversations", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n, st, s := start(t, 0)
			defer s.Close()
			var some []pim.ConversationID
			for i, age := range []time.Duration{10 * day, 60 * day, 0} {
				some = append(some, pim.Direct("alice", pim.UserID(fmt.Sprint("u", i))))
				n.retains(some[i], "alice", age)
			}
			st.spent()
			for range 3 { // three partitions; 0 is no time
				is(t, st.pass(), cost{lists: 4, listed: 3 + 3, gets: 2, writes: 3 + 1})
			}
			time.Sleep(2 * day)
			synctest.Wait()
			if n.front(some[0]) != 2 || n.front(some[1]) != 1 || n.front(some[2]) != 1 {
				t.Errorf("after ten days the logs begin at %d, %d and %d", n.front(some[0]), n.front(some[1]), n.front(some[2]))
			}
			time.Sleep(8*day + late) // the retain of the first is old, too
			synctest.Wait()
			st.spent()
			is(t, st.pass(), cost{lists: 4, listed: 3 + 3, gets: 2, writes: 3 + 1})
		})
	})
	t.Run("the server", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n, st, s := start(t, 10*day)
			defer s.Close()
			st.spent()
			is(t, st.pass(), cost{lists: 1 + inbox.LogPartitions, listed: conversations, writes: inbox.LogPartitions + 1})
			time.Sleep(2*day + late)
			synctest.Wait()
			if c := pim.Direct("alice", "u7"); n.front(c) != 2 {
				t.Errorf("after ten days the log of %s begins at %d", c, n.front(c))
			}
			st.spent()
			is(t, st.pass(), cost{lists: 1 + inbox.LogPartitions, listed: conversations, writes: inbox.LogPartitions + 1})
		})
	})
}

// A store of an earlier version has conversations with a time of their own, and no list of the
// partitions that have such.
func TestPartitionsThatWereNotMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := &unmarked{Store: storetest.NewMemory()}
		st.early.Store(true)
		n := newNode(t, st)
		c := pim.Direct("alice", "bob")
		n.sends(c, "alice")
		n.retains(c, "alice", 10*day)
		st.early.Store(false)
		s := retain.New(n.options(0))
		defer s.Close()
		time.Sleep(10*day + late)
		synctest.Wait()
		if n.front(c) != 3 {
			t.Errorf("after ten days the log begins at %d", n.front(c))
		}
	})
}

// unmarked is a store that loses the cells of inbox.Retaining while it is early.
type unmarked struct {
	store.Store
	early atomic.Bool
}

func (s *unmarked) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		if s.early.Load() {
			w.Cells = slices.DeleteFunc(w.Cells, func(c store.CellWrite) bool { return c.Partition == inbox.Retaining })
		}
	}
	s.Store.Begin(ctx, writes, d, done)
}
