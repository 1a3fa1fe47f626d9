package pebble

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// moves reports whether f makes the stack of a new goroutine grow, which begins with grow.
func moves(grow, f func()) bool {
	moved := make(chan bool)
	go func() {
		grow()
		var x int
		before := uintptr(unsafe.Pointer(&x))
		f()
		moved <- before != uintptr(unsafe.Pointer(&x))
	}()
	return <-moved
}

// The stack that growStack makes is enough for reads that find nothing in the cache.
func TestReadsHaveStack(t *testing.T) {
	dir := t.TempDir()
	st, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		p := store.Partition(fmt.Sprint("p", i))
		w := store.Write{Log: store.Log(fmt.Sprint("l", i)), Records: [][]byte{make([]byte, 3000)}, Cells: []store.CellWrite{
			{Partition: p, Cell: store.Cell{Key: "a", Version: 1, Value: make([]byte, 300)}},
			{Partition: "~" + p, Cell: store.Cell{Key: "a", Version: 1, Value: make([]byte, 300)}},
		}}
		if err := store.Commit(t.Context(), st, []*store.Write{&w}, store.Durable); err != nil {
			t.Fatal(err)
		}
	}
	if err := st.db.Flush(); err != nil {
		t.Fatal(err)
	}
	st.Close()
	if st, err = Open(dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ctx := t.Context()
	enter := func() {
		if st.enterRead(ctx) == nil {
			st.leave(1)
		}
	}
	if !moves(func() {}, enter) {
		t.Error("a read begins on a small stack")
	}
	for name, f := range map[string]func(i int){
		"Get": func(i int) {
			st.Get(ctx, []store.Get{{Partition: store.Partition(fmt.Sprint("p", i)), Key: "a"}})
		},
		"List":                        func(i int) { st.List(ctx, store.Partition(fmt.Sprint("p", i)), "", 5) },
		"List of a passing partition": func(i int) { st.List(ctx, store.Partition(fmt.Sprint("~p", i)), "", 5) },
		"Read": func(i int) {
			st.Read(ctx, []store.Read{{Log: store.Log(fmt.Sprint("l", i)), WithLast: true, Limit: store.Limit{Records: 1, Bytes: pim.MaxFrame}}})
		},
	} {
		without, with := 0, 0
		for i := range 50 {
			if moves(func() {}, func() { f(i) }) {
				without++
			}
			if moves(growStack, func() { f(i + 50) }) {
				with++
			}
		}
		if with > 5 || without < 45 { // a collection may shrink a stack
			t.Errorf("%s: the stack grew in %d of 50 reads with growStack, in %d without", name, with, without)
		}
	}
}
