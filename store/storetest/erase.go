package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// erase returns a write that erases records of log.
func erase(log store.Log, after pim.Seq, seqs ...pim.Seq) *store.Write {
	w := &store.Write{Log: log, After: after}
	for _, seq := range seqs {
		w.Erase = append(w.Erase, store.Erasure{Seq: seq, Rest: rest(seq)})
	}
	return w
}

// rest returns what erase leaves of the record at seq.
func rest(seq pim.Seq) []byte { return fmt.Appendf(nil, "r%d", seq) }

// erases erases records of a log: the first and the last, some of one append, large ones and
// small ones, again and in another order, alone and beside an append.
func (s *suite) erases() {
	var want [][]byte
	for _, n := range []int{1, 3, 300, 1, 40} { // of one append
		w := &store.Write{Log: "log", After: pim.Seq(len(want))}
		for range n {
			r := fmt.Appendf(nil, "record %d", len(want)+1)
			if len(want)%7 == 3 {
				r = append(r, strings.Repeat(" and more", 900)...)
			}
			w.Records = append(w.Records, bytes.Clone(r))
			want = append(want, r)
		}
		s.commits(w)
	}
	big := bytes.Repeat([]byte{7}, store.MaxRecordBytes)
	s.commits(&store.Write{Log: "log", After: pim.Seq(len(want)), Records: [][]byte{big}})
	want = append(want, big)
	last := pim.Seq(len(want))
	erases := func(w *store.Write) {
		s.Helper()
		for _, e := range w.Erase {
			want[e.Seq-1] = bytes.Clone(e.Rest)
		}
		s.commits(w)
		s.ends("log", last)
		s.reads("log", 1, 0, much, want...)
	}
	erases(erase("log", last, 1))
	erases(erase("log", last, last))
	erases(erase("log", last, 2, 4, 5, 100, 304, 305))
	erases(erase("log", last, 305, 4, 2, 77, 2, 4)) // again
	for _, seq := range []pim.Seq{1, 4, 77, last} {
		s.reads("log", seq, seq, store.Limit{Records: 1, Bytes: 1}, rest(seq))
	}
	both := erase("log", last, 11, last-1)
	both.Records = [][]byte{[]byte("appended"), []byte("beside it")}
	both.Cells = []store.CellWrite{cell("p", "k", 1, "v")}
	want = append(want, both.Records...)
	last += 2
	erases(both)
	s.holds("p", "k", 1, "v")
	s.commits(appendTo("log", last, "and on"))
	s.reads("log", 11, 12, much, rest(11), want[11])
	s.reads("log", last-1, 0, much, []byte("appended"), []byte("beside it"), []byte("and on"))
}

// erasuresAreConditional erases after a seq that is not the log's last one, and while others
// append to the log.
func (s *suite) erasuresAreConditional() {
	s.commits(appendTo("log", 0, numbered(1, 5)...))
	for _, after := range []pim.Seq{4, 6} {
		w := erase("log", after, 2)
		w.Cells = []store.CellWrite{cell("p", "k", 1, "v")}
		s.conflicts(w, 5)
	}
	w := erase("log", 4, 2)
	w.Records = [][]byte{[]byte("x")}
	s.conflicts(w, 5)
	s.holds("p", "k", 0, "")
	s.reads("log", 1, 0, much, asBytes(numbered(1, 5))...)

	var running sync.WaitGroup
	var mu sync.Mutex
	erased := map[pim.Seq]bool{}
	for racer := range 3 {
		running.Go(func() {
			last := pim.Seq(5)
			for n := pim.Seq(1); n <= 30; n++ {
				w := appendTo("log", last, fmt.Sprintf("record %d", last+1))
				if racer > 0 {
					w = erase("log", last, 3*n%last+1)
				}
				if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable); err != nil {
					s.Errorf("commit: %v", err)
					return
				}
				var conflict *store.ConflictError
				switch {
				case errors.As(w.Err, &conflict):
					last = conflict.Last
				case racer == 0:
					last++
				default:
					mu.Lock()
					erased[w.Erase[0].Seq] = true
					mu.Unlock()
				}
			}
		})
	}
	running.Wait()
	for i, r := range s.follow("log", 1, 0) {
		seq := pim.Seq(i + 1)
		want := fmt.Sprintf("record %d", seq)
		if erased[seq] {
			want = string(rest(seq))
		}
		if string(r) != want {
			s.Fatalf("at %d there is %q, want %q", seq, r, want)
		}
	}
}

func (s *suite) badErasures() {
	s.commits(appendTo("log", 0, "x", "y"))
	s.invalid("an erasure of seq 0", erase("log", 2, 0), store.Durable)
	s.invalid("an erasure of what is not there yet", erase("log", 2, 3), store.Durable)
	own := erase("log", 2, 3)
	own.Records = [][]byte{[]byte("z")}
	s.invalid("an erasure of the write's own record", own, store.Durable)
	empty, long, raises := erase("log", 2, 1), erase("log", 2, 1), erase("log", 2, 1)
	empty.Erase[0].Rest, long.Erase[0].Rest, raises.Raise = nil, make([]byte, store.MaxRecordBytes+1), true
	s.invalid("an erasure that leaves nothing", empty, store.Durable)
	s.invalid("an erasure that leaves too much", long, store.Durable)
	s.invalid("an erasure and a raise", raises, store.Durable)
	s.invalid("a relaxed erasure", erase("log", 2, 1), store.Relaxed)
	s.invalid("an erasure from a log without a name", erase("", 2, 1), store.Durable)
	expires, passes := cell("p", "k", 1, ""), cell("~p", "k", 1, "")
	expires.Lifetime, expires.Erase, passes.Erase = time.Hour, true, true
	s.invalid("an erasure of a cell that expires", &store.Write{Cells: []store.CellWrite{expires}}, store.Durable)
	s.invalid("an erasure of a passing cell", &store.Write{Cells: []store.CellWrite{passes}}, store.Durable)
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := store.Commit(ended, s.store, []*store.Write{erase("log", 2, 1)}, store.Durable); err == nil {
		s.Error("an erasure with a cancelled context: no error")
	}
	s.reads("log", 1, 0, much, []byte("x"), []byte("y"))
}
