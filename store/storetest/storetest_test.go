package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/leaks"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(leaks.Patiently(m)) }

func TestMemory(t *testing.T) {
	memory := storetest.Engine{Open: func(*testing.T) store.Store { return storetest.NewMemory() }}
	t.Run("bare", func(t *testing.T) { storetest.Run(t, memory) })
	t.Run("loose", func(t *testing.T) { storetest.Run(t, memory.Loose(seeds.First(t))) })
}

// A store behind a socket keeps the contract. It is the same store for whoever dials again.
func TestRemote(t *testing.T) {
	var address string // of the test that runs
	dial := func(t *testing.T) store.Store {
		s, err := storetest.Dial("unix", address)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	storetest.Run(t, storetest.Engine{
		Open: func(t *testing.T) store.Store {
			dir, err := os.MkdirTemp("", "pim") // t.TempDir is too long for the name of a socket
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("unix", filepath.Join(dir, "store"))
			if err != nil {
				t.Fatal(err)
			}
			var served sync.WaitGroup
			served.Go(func() { storetest.Serve(l, storetest.NewMemory()) })
			t.Cleanup(func() {
				l.Close()
				served.Wait()
				os.RemoveAll(dir)
			})
			address = l.Addr().String()
			return dial(t)
		},
		Reopen: func(t *testing.T, _ store.Store) store.Store { return dial(t) },
	})
}

// If the connection to a store breaks, nobody knows the outcome of a write that was under way,
// and later writes have not begun.
func TestRemoteBreaks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := storetest.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 1)
	write := func() *store.Write { return &store.Write{Log: "log", Records: [][]byte{[]byte("x")}} }
	s.Begin(context.Background(), []*store.Write{write()}, store.Durable, func(w *store.Write) { outcome <- w.Err })
	if _, err := c.Read(make([]byte, 1)); err != nil { // the write is under way
		t.Fatal(err)
	}
	c.Close()
	if err := <-outcome; !errors.Is(err, store.ErrUnknown) || pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("the write under way ended with %v", err)
	}
	later := write()
	err = store.Commit(context.Background(), s, []*store.Write{later}, store.Durable)
	if pim.KindOf(err) != pim.KindUnavailable || errors.Is(err, store.ErrUnknown) {
		t.Errorf("a later write ended with %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A write with an unknown outcome may have one of several effects, at once and later.
// TestLooseFails checks that each of them occurs, and no other.
func TestLooseFails(t *testing.T) {
	ctx := context.Background()
	inner := storetest.NewMemory()
	s := storetest.Loose(inner, 7)
	effects := map[string]int{}
	for i := range 2000 {
		log := store.Log(fmt.Sprint(i))
		w := &store.Write{Log: log, Records: [][]byte{[]byte("x")}, Cells: []store.CellWrite{
			{Partition: store.Partition(log), Cell: store.Cell{Key: "a", Version: 1}},
			{Partition: store.Partition(log), Cell: store.Cell{Key: "b", Version: 1}},
		}}
		effect := func() string {
			last, _, _ := store.LogEnd(ctx, inner, log)
			cells, _ := inner.List(ctx, store.Partition(log), "", 10)
			return fmt.Sprintf("%d+%d", last, len(cells))
		}
		s.FailRate(0.5)
		err := store.Commit(ctx, s, []*store.Write{w}, store.Durable)
		if err != nil && (!errors.Is(err, store.ErrUnknown) || pim.KindOf(err) != pim.KindUnavailable || w.Err != err) {
			t.Fatalf("commit: %v, write: %v", err, w.Err)
		}
		clear(w.Records[0]) // it is the caller's again
		s.FailRate(0)
		now := effect()
		for range 100 { // what is late comes, if ever
			if _, err := s.List(ctx, "p", "", 1); err != nil {
				t.Fatal(err)
			}
		}
		if records, err := store.ReadLog(ctx, inner, log, 1, 0, store.Limit{Records: 9, Bytes: 9}); err != nil || len(records) > 0 && string(records[0]) != "x" {
			t.Fatalf("the log has %q, %v", records, err)
		}
		effects[fmt.Sprintf("ok %v: %s, then %s", err == nil, now, effect())]++
	}
	for _, effect := range []string{
		"ok true: 1+2, then 1+2",
		"ok false: 0+0, then 0+0", "ok false: 0+0, then 1+0", "ok false: 0+0, then 1+1", "ok false: 0+0, then 1+2",
		"ok false: 1+0, then 1+0", "ok false: 1+0, then 1+1", "ok false: 1+0, then 1+2",
		"ok false: 1+1, then 1+1", "ok false: 1+1, then 1+2", "ok false: 1+2, then 1+2",
	} {
		if effects[effect] < 3 {
			t.Errorf("%s: %d times of 2000, want at least 3", effect, effects[effect])
		}
		delete(effects, effect)
	}
	if len(effects) > 0 {
		t.Errorf("effects that must not be: %v", effects)
	}
}

// A late append has no effect if another one came first, and neither have its cells.
func TestLateAppendsAreConditional(t *testing.T) {
	ctx := context.Background()
	inner := storetest.NewMemory()
	s := storetest.Loose(inner, 11)
	overtaken := 0
	for i := range 300 {
		log := store.Log(fmt.Sprint(i))
		w := &store.Write{Log: log, Records: [][]byte{[]byte("late")}, Cells: []store.CellWrite{
			{Partition: store.Partition(log), Cell: store.Cell{Key: "a", Version: 1}},
		}}
		s.FailRate(1)
		if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		s.FailRate(0)
		first := &store.Write{Log: log, Records: [][]byte{[]byte("first")}}
		if err := store.Commit(ctx, inner, []*store.Write{first}, store.Durable); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			if _, err := s.List(ctx, "p", "", 1); err != nil {
				t.Fatal(err)
			}
		}
		if first.Err != nil {
			continue // w had taken effect
		}
		overtaken++
		records, err := store.ReadLog(ctx, inner, log, 1, 0, store.Limit{Records: 9, Bytes: 99})
		cells, _ := inner.List(ctx, store.Partition(log), "", 10)
		if err != nil || len(records) != 1 || string(records[0]) != "first" || len(cells) > 0 {
			t.Fatalf("%q, %v, and the cells %v", records, err, cells)
		}
	}
	if overtaken < 50 {
		t.Errorf("%d appends were overtaken", overtaken)
	}
}

// A late append names a fence, and a late raise raises it.
func TestLateWritesHeedFences(t *testing.T) {
	ctx := context.Background()
	inner := storetest.NewMemory()
	s := storetest.Loose(inner, 5)
	lateAppends, lateRaises := 0, 0
	for i := range 300 {
		log := store.Log(fmt.Sprint(i))
		raise := func() *store.Write { return &store.Write{Log: log, Raise: true} }
		commit := func(to store.Store, w *store.Write) error {
			return store.Commit(ctx, to, []*store.Write{w}, store.Durable)
		}
		if err := commit(inner, raise()); err != nil {
			t.Fatal(err)
		}
		w := raise()
		if i%2 == 0 {
			w = &store.Write{Log: log, Fence: 1, Records: [][]byte{[]byte("late")}}
		}
		s.FailRate(1)
		if err := commit(s, w); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		s.FailRate(0)
		last, fence, _ := store.LogEnd(ctx, inner, log)
		raised := i%4 == 0
		if raised {
			if err := commit(inner, raise()); err != nil {
				t.Fatal(err)
			}
		}
		for range 40 {
			if _, err := s.List(ctx, "p", "", 1); err != nil {
				t.Fatal(err)
			}
		}
		switch now, nowFence, _ := store.LogEnd(ctx, inner, log); {
		case i%2 == 0 && now > last && raised:
			t.Fatal("a late append took effect after the fence was raised")
		case i%2 == 0 && now > last:
			lateAppends++
		case i%2 == 1 && nowFence > fence:
			lateRaises++
		}
	}
	if lateAppends == 0 || lateRaises == 0 {
		t.Errorf("%d late appends and %d late raises", lateAppends, lateRaises)
	}
}

// Outcomes come in any order, before Begin returns and after. Gets and reads fail one by one.
func TestLooseAnswers(t *testing.T) {
	ctx := context.Background()
	inner := storetest.NewMemory()
	s := storetest.Loose(inner, 3)
	later, orders := 0, map[string]bool{}
	for range 200 {
		var writes []*store.Write
		for i := range 3 {
			writes = append(writes, &store.Write{Owner: i, Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: "k", Version: 1}}}})
		}
		outcomes := make(chan int, len(writes))
		s.Begin(ctx, writes, store.Durable, func(w *store.Write) { outcomes <- w.Owner.(int) })
		if len(outcomes) < len(writes) {
			later++
		}
		orders[fmt.Sprint(<-outcomes, <-outcomes, <-outcomes)] = true
	}
	if later == 0 || len(orders) != 6 {
		t.Errorf("%d times outcomes came after Begin; they came in %d orders", later, len(orders))
	}
	w := &store.Write{Log: "log", Records: [][]byte{{1}, {2}, {3}}}
	if err := store.Commit(ctx, inner, []*store.Write{w}, store.Durable); err != nil {
		t.Fatal(err)
	}
	s.FailRate(0.5)
	answers := map[string]int{}
	for range 1000 {
		gets := []store.Get{{Partition: "p", Key: "k"}, {Partition: "p", Key: "k"}}
		err := s.Get(ctx, gets)
		answers[fmt.Sprint("got ", gets[0].Cell.Version, gets[1].Cell.Version, err == nil)]++
		reads := []store.Read{{Log: "log", From: 1, Limit: store.Limit{Records: 9, Bytes: 9}, WithLast: true}}
		err = s.Read(ctx, reads)
		answers[fmt.Sprint("read ", len(reads[0].Records), reads[0].Last, err == nil)]++
	}
	for _, answer := range []string{
		"got 1 1 true", "got 0 1 false", "got 1 0 false", "got 0 0 false",
		"read 3 3 true", "read 2 3 true", "read 1 3 true", "read 0 0 false",
	} {
		if answers[answer] == 0 {
			t.Errorf("never %q", answer)
		}
		delete(answers, answer)
	}
	if len(answers) > 0 {
		t.Errorf("answers that must not be: %v", answers)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
