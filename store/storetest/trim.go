package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// trim returns a write that trims log up to a seq.
func trim(log store.Log, upTo pim.Seq, cells ...store.CellWrite) *store.Write {
	return &store.Write{Log: log, Trim: upTo, Cells: cells}
}

// trims trims a log step by step, between appends and within them, and each time once more and
// by less. Nothing but the front changes. When no record is left, appends go on.
func (s *suite) trims() {
	var want [][]byte                           // of the whole log
	for _, n := range []int{1, 3, 300, 1, 40} { // of one append
		w := &store.Write{Log: "log", After: pim.Seq(len(want))}
		for range n {
			r := fmt.Appendf(nil, "record %d", len(want)+1)
			if len(want)%7 == 3 {
				r = append(r, strings.Repeat(" and more", 900)...)
			}
			w.Records, want = append(w.Records, r), append(want, r)
		}
		s.commits(w)
	}
	s.commits(raise("log"))
	fence, last := s.fence("log", pim.Seq(len(want))), pim.Seq(len(want))
	s.begins("log", 1, last, fence, want)
	for _, upTo := range []pim.Seq{1, 2, 4, 5, 100, 303, 304, 305, 311, last - 1, last} {
		s.commits(trim("log", upTo, cell("p", "k", uint64(upTo), "v")))
		s.begins("log", upTo+1, last, fence, want)
		s.holds("p", "k", uint64(upTo), "v")
		again := trim("log", upTo/2+1)
		again.After, again.Fence = 99, 99 // which say nothing
		s.commits(again, trim("other log", 0))
		s.begins("log", upTo+1, last, fence, want)
	}
	s.stale(appendTo("log", 0, "x"), last)
	w := appendTo("log", last, numbered(int(last)+1, int(last)+5)...)
	w.Fence = fence
	s.commits(w)
	want, last = append(want, w.Records...), last+5
	s.begins("log", last-4, last, fence, want)
	s.commits(raise("log"))
	fence = s.fence("log", last)
	s.commits(trim("log", last-2))
	s.begins("log", last-1, last, fence, want)

	// What was trimmed cannot be erased, and nothing happens.
	e := erase("log", last, 3, last-2, last)
	e.Fence = fence
	s.commits(e)
	want[last-1] = e.Erase[2].Rest
	s.begins("log", last-1, last, fence, want)
}

// begins checks where a log begins and ends, and what reads of it return. want holds all
// records, those that were trimmed too. Each call reads between all borders; which limit a read has, and whether it asks for the last seq,
// differs from call to call, since a read of a database takes long.
func (s *suite) begins(log store.Log, front, last pim.Seq, fence uint64, want [][]byte) {
	s.Helper()
	r := s.read(store.Read{Log: log, WithLast: true})
	if r.Front != front || r.First != front || r.Last != last || r.Fence != fence {
		s.Fatalf("log %q has front %d, last %d and fence %d; want %d, %d, %d", log, r.Front, r.Last, r.Fence, front, last, fence)
	}
	var reads []store.Read
	s.begun++
	for _, from := range []pim.Seq{0, 1, 2, front - 1, front, front + 1, last, last + 1, last + 9} {
		for _, to := range []pim.Seq{0, 1, front - 1, front, last, last + 9} {
			r := store.Read{Log: log, From: from, To: to, Limit: much, WithLast: (s.begun+len(reads))/2%2 == 0}
			if (s.begun+len(reads))%2 == 0 {
				r.Limit = store.Limit{Records: 2, Bytes: 1 << 20}
			}
			reads = append(reads, r)
		}
	}
	if err := s.store.Read(s.ctx, reads); err != nil { // one call, because there are so many
		s.Fatalf("reads of %q: %v", log, err)
	}
	for i := range reads {
		r := &reads[i]
		first, end := max(r.From, front), last
		if r.To != 0 {
			end = min(end, r.To)
		}
		var records [][]byte
		if first <= end {
			records = want[first-1 : end]
		}
		n := len(r.Records)
		if r.First != first || n > len(records) || (n == 0) != (len(records) == 0) || !slices.EqualFunc(r.Records, records[:n], bytes.Equal) {
			s.Fatalf("read of %q from %d to %d: first %d, %s; want first %d, %s", log, r.From, r.To, r.First, brief(r.Records), first, brief(records))
		}
		if r.WithLast && (r.Front != front || r.Last != last) || !r.WithLast && r.Front != 0 {
			s.Fatalf("read of %q from %d to %d: front %d and last %d, want %d and %d", log, r.From, r.To, r.Front, r.Last, front, last)
		}
	}
}

// trimsOfNothing trims beyond a log's last seq.
func (s *suite) trimsOfNothing() {
	s.invalid("a trim of an empty log", trim("none", 1, cell("p", "k", 1, "v")), store.Durable)
	s.commits(appendTo("log", 0, "x", "y"))
	for _, upTo := range []pim.Seq{3, 1 << 62, ^pim.Seq(0)} {
		s.invalid("a trim beyond the last seq", trim("log", upTo, cell("p", "k", 1, "v")), store.Durable)
	}
	s.commits(trim("log", 2))
	s.invalid("a trim beyond the last seq of a log that is trimmed", trim("log", 3, cell("p", "k", 1, "v")), store.Durable)
	s.holds("p", "k", 0, "")
	s.begins("log", 3, 2, 0, nil)
	s.begins("none", 1, 0, 0, nil)
}

func (s *suite) badTrims() {
	s.commits(appendTo("log", 0, "x", "y"))
	appends, erases, raises := trim("log", 1), trim("log", 1), trim("log", 1)
	appends.Records, appends.After = [][]byte{[]byte("z")}, 2
	erases.Erase, erases.After = erase("log", 2, 2).Erase, 2
	raises.Raise = true
	s.invalid("a trim and an append", appends, store.Durable)
	s.invalid("a trim and an erasure", erases, store.Durable)
	s.invalid("a trim and a raise", raises, store.Durable)
	s.invalid("a relaxed trim", trim("log", 1), store.Relaxed)
	s.invalid("a trim of a log without a name", trim("", 1), store.Durable)
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := store.Commit(ended, s.store, []*store.Write{trim("log", 1)}, store.Durable); err == nil {
		s.Error("a trim with a cancelled context: no error")
	}
	s.begins("log", 1, 2, 0, [][]byte{[]byte("x"), []byte("y")})
}

// trimsAreFresh trims a log while others append to it and read it. The front that a call has
// told only grows, a cell of the trim is there as soon as the front is told, and no record
// changes its seq.
func (s *suite) trimsAreFresh() {
	var fronts, lasts told
	fronts.raise(1)
	appends := func() {
		for known := pim.Seq(0); known < 150; known += 3 {
			w := appendTo("log", known, numbered(int(known)+1, int(known)+3)...)
			s.commits(w)
			lasts.raise(uint64(known) + 3)
		}
	}
	trims := func(n int) {
		for range 40 {
			last := lasts.Load() // once: it grows meanwhile
			upTo := last - min(last, uint64(n))
			if upTo == 0 {
				continue
			}
			w := trim("log", pim.Seq(upTo), cell("p", "trimmed", upTo, "v"))
			if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable); err != nil {
				s.Errorf("trim up to %d: %v", upTo, err)
				return
			}
			fronts.raise(upTo + 1)
		}
	}
	meanwhile(func() {
		var writing sync.WaitGroup
		writing.Go(appends)
		for n := range 3 {
			writing.Go(func() { trims(2 * n) })
		}
		writing.Wait()
	}, func() bool {
		front, last := pim.Seq(fronts.Load()), pim.Seq(lasts.Load())
		for _, from := range []pim.Seq{1, front - 1, front, front + 4, last} {
			reads := []store.Read{{Log: "log", From: from, Limit: much, WithLast: from%2 == 0}}
			err := s.store.Read(s.ctx, reads)
			r := &reads[0]
			if err != nil || r.First < front || r.WithLast && (r.Front < front || r.Last < last || r.First != max(from, r.Front)) {
				s.Errorf("read from %d: %+v, %v; front %d and last %d were told before", from, r, err, front, last)
				return false
			}
			for i, record := range r.Records {
				if want := fmt.Sprintf("record %d", r.First+pim.Seq(i)); string(record) != want {
					s.Errorf("at %d there is %q", r.First+pim.Seq(i), record)
					return false
				}
			}
			if r.First > max(from, 1) {
				fronts.raise(uint64(r.First))
			}
			c, _, err := store.Lookup(s.ctx, s.store, "p", "trimmed")
			if err != nil || r.Front > pim.Seq(c.Version)+1 {
				s.Errorf("the front was %d, the cell that came before it is %+v, %v", r.Front, c, err)
				return false
			}
		}
		return true
	})
}

// trimsRace trims a log beside appends whose seqs and fence are right. None of them conflicts
// with a trim.
func (s *suite) trimsRace() {
	var appended told
	var running sync.WaitGroup
	running.Go(func() {
		for n := range 60 {
			w := appendTo("log", pim.Seq(n), fmt.Sprintf("record %d", n+1))
			if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable); errors.Join(err, w.Err) != nil {
				s.Errorf("append %d: %v, %v", n+1, err, w.Err)
				return
			}
			appended.raise(uint64(n) + 1)
		}
	})
	running.Go(func() {
		for n := uint64(0); n < 50 && !s.Failed(); n = appended.Load() {
			if n > 0 {
				s.commits(trim("log", pim.Seq(n)))
			}
		}
	})
	running.Wait()
	s.ends("log", 60)
}
