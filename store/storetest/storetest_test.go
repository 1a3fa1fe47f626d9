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
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return storetest.NewMemory() })
}

func TestLooseWithoutFailures(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return storetest.Loose(storetest.NewMemory(), 1) })
}

// A store behind a socket keeps the contract.
func TestRemote(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
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
		s, err := storetest.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return s
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

// A write with an unknown outcome may have one of several effects. TestLooseFails checks that
// each of them occurs, and no other.
func TestLooseFails(t *testing.T) {
	ctx := context.Background()
	inner := storetest.NewMemory()
	s := storetest.Loose(inner, 7)
	s.FailRate(0.5)
	effects := map[string]int{}
	for i := range 400 {
		log := store.Log(fmt.Sprint(i))
		w := &store.Write{Log: log, Records: [][]byte{[]byte("x")}, Cells: []store.CellWrite{
			{Partition: store.Partition(log), Cell: store.Cell{Key: "a", Version: 1}},
			{Partition: store.Partition(log), Cell: store.Cell{Key: "b", Version: 1}},
		}}
		err := store.Commit(ctx, s, []*store.Write{w}, store.Durable)
		if err != nil && (!errors.Is(err, store.ErrUnknown) || pim.KindOf(err) != pim.KindUnavailable || w.Err != err) {
			t.Fatalf("commit: %v, write: %v", err, w.Err)
		}
		last, _, _ := store.LogEnd(ctx, inner, log)
		cells, _ := inner.List(ctx, store.Partition(log), "", 10)
		effects[fmt.Sprintf("ok %v: %d records, %d cells", err == nil, last, len(cells))]++
	}
	for _, effect := range []string{
		"ok true: 1 records, 2 cells", "ok false: 0 records, 0 cells", "ok false: 1 records, 0 cells",
		"ok false: 1 records, 1 cells", "ok false: 1 records, 2 cells",
	} {
		if effects[effect] < 10 {
			t.Errorf("%s: %d times of 400, want at least 10", effect, effects[effect])
		}
		delete(effects, effect)
	}
	if len(effects) > 0 {
		t.Errorf("effects that must not be: %v", effects)
	}
}
