package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// read carries out one read, which must succeed.
func (s *suite) read(r store.Read) store.Read {
	s.Helper()
	reads := []store.Read{r}
	if err := s.store.Read(s.ctx, reads); err != nil || reads[0].Err != nil {
		s.Fatalf("read %+v: %v, %v", r, err, reads[0].Err)
	}
	return reads[0]
}

// readsLast asks for a log's last seq, alone and with records.
func (s *suite) readsLast() {
	for _, log := range []store.Log{"none", "log"} {
		last := pim.Seq(0)
		if log == "log" {
			last = 9
			s.commits(appendTo(log, 0, numbered(1, 4)...))
			s.commits(appendTo(log, 4, numbered(5, 9)...))
		}
		for from := range pim.Seq(12) {
			for _, to := range []pim.Seq{0, 1, 3, 4, 8, 9, 99} {
				for _, limit := range []store.Limit{{}, much, {Records: 2, Bytes: 1 << 20}} {
					r := s.read(store.Read{Log: log, From: from, To: to, Limit: limit, WithLast: true})
					if r.Last != last || r.First != max(from, 1) {
						s.Fatalf("read of %q from %d to %d: first %d, last %d; the log's last seq is %d", log, from, to, r.First, r.Last, last)
					}
					if limit == (store.Limit{}) && r.Records != nil {
						s.Fatalf("a read of no records returns %d", len(r.Records))
					}
					if limit != much {
						continue
					}
					again := s.read(store.Read{Log: log, From: from, To: to, Limit: much})
					if (len(r.Records) == 0) != (len(again.Records) == 0) || again.Last != 0 {
						s.Fatalf("read of %q from %d to %d: %d records with last, %d without, and last %d", log, from, to, len(r.Records), len(again.Records), again.Last)
					}
				}
			}
		}
	}
	reads := []store.Read{{Log: "log", From: 1}}
	if err := s.store.Read(s.ctx, reads); pim.KindOf(err) != pim.KindInvalid || pim.KindOf(reads[0].Err) != pim.KindInvalid {
		s.Errorf("a read that asks for nothing: %v, want KindInvalid", err)
	}
}

// recordsAndLastAgree reads a log while others append to it. No record of a read is beyond
// its last seq, a read returns a record if there is one up to its last seq, and the last seq
// of a later read is no less.
func (s *suite) recordsAndLastAgree() {
	var mu sync.Mutex
	last := pim.Seq(0) // of a read that has ended
	meanwhile(func() {
		var appending sync.WaitGroup
		for range 4 {
			appending.Go(func() {
				after := pim.Seq(0)
				for range 40 {
					w := appendTo("log", after, numbered(int(after)+1, int(after)+3)...)
					if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable); err != nil {
						s.Errorf("commit: %v", err)
						return
					}
					var conflict *store.ConflictError
					if errors.As(w.Err, &conflict) {
						after = conflict.Last
					} else {
						after += 3
					}
				}
			})
		}
		appending.Wait()
	}, func() bool {
		mu.Lock()
		known := last
		mu.Unlock()
		for from := known; from <= known+4; from += 2 {
			r := store.Read{Log: "log", From: from, Limit: store.Limit{Records: 1 + int(from%5), Bytes: 1 << 20}, WithLast: true}
			reads := []store.Read{r}
			err := s.store.Read(s.ctx, reads)
			r = reads[0]
			end := r.First + pim.Seq(len(r.Records)) - 1
			if err != nil || r.Last < known || end > r.Last && len(r.Records) > 0 || r.First <= r.Last && len(r.Records) == 0 {
				s.Errorf("read from %d: %d records from %d, last %d, %v; a read before told of last %d", from, len(r.Records), r.First, r.Last, err, known)
				return false
			}
			for i, record := range r.Records {
				if want := fmt.Sprintf("record %d", r.First+pim.Seq(i)); string(record) != want {
					s.Errorf("at %d there is %q", r.First+pim.Seq(i), record)
					return false
				}
			}
			mu.Lock()
			last = max(last, r.Last)
			mu.Unlock()
		}
		return true
	})
}

// longLog reads at several places of a log of 5,000 records.
func (s *suite) longLog() {
	const n, part = 5000, 250
	for seq := 0; seq < n; seq += part {
		s.commits(appendTo("log", pim.Seq(seq), numbered(seq+1, seq+part)...))
	}
	want := asBytes(numbered(1, n))
	for _, from := range []int{1, 2, part, part + 1, n / 2, n - part, n - 1, n} {
		s.reads("log", pim.Seq(from), 0, much, want[from-1:]...)
		s.reads("log", pim.Seq(from), pim.Seq(min(from+300, n)), much, want[from-1:min(from+300, n)]...)
		r := s.read(store.Read{Log: "log", From: pim.Seq(from), Limit: store.Limit{Records: 3, Bytes: 100}, WithLast: true})
		if r.Last != n {
			s.Errorf("a read from %d says that the last seq is %d", from, r.Last)
		}
	}
	s.ends("log", n)
}

// readMany reads from many logs in one call, from some of them twice.
func (s *suite) readMany() {
	const logs = 60
	var writes []*store.Write
	for i := range logs {
		if i%4 != 0 {
			writes = append(writes, appendTo(store.Log(fmt.Sprint(i)), 0, numbered(1, i)...))
		}
	}
	s.commits(writes...)
	var reads []store.Read
	for i := range 2 * logs {
		r := store.Read{Log: store.Log(fmt.Sprint(i % logs)), From: pim.Seq(i/2%7 + 1), Limit: much, WithLast: i%3 == 0}
		if i%5 == 0 {
			r.To = r.From
		}
		if i%9 == 0 {
			r.Limit = store.Limit{}
		}
		r.First, r.Records, r.Last, r.Err = 77, asBytes(numbered(1, 2)), 77, errors.New("of an earlier call")
		reads = append(reads, r)
	}
	if err := s.store.Read(s.ctx, reads); err != nil {
		s.Fatal(err)
	}
	for i := range reads {
		r, n := &reads[i], i%logs
		if n%4 == 0 {
			n = 0
		}
		want := asBytes(numbered(int(r.From), n))
		if r.To != 0 && len(want) > 0 {
			want = want[:1]
		}
		if r.Limit == (store.Limit{}) {
			want = nil
		}
		last := pim.Seq(0)
		if r.WithLast {
			last = pim.Seq(n)
		}
		if r.Err != nil || r.First != r.From || r.Last != last || len(r.Records) > len(want) || len(want) > 0 && len(r.Records) == 0 {
			s.Fatalf("read %d: %+v, want %d records and last %d", i, r, len(want), last)
		}
		for j := range r.Records {
			if string(r.Records[j]) != string(want[j]) {
				s.Fatalf("read %d: %+v, want %q", i, r, want)
			}
		}
	}
	if err := s.store.Read(s.ctx, nil); err != nil {
		s.Errorf("no reads: %v", err)
	}
}

// readsFailAlone reads from logs that cannot be, and with limits that cannot be, among others.
func (s *suite) readsFailAlone() {
	s.commits(appendTo("log", 0, "x"))
	good := store.Read{Log: "log", From: 1, Limit: much, WithLast: true}
	empty, long, bad := good, good, good
	empty.Log, long.Log, bad.Limit.Records = "", store.Log(strings.Repeat("x", store.MaxNameBytes+1)), -1
	reads := []store.Read{good, empty, good, long, bad, good}
	if err := s.store.Read(s.ctx, reads); err != reads[1].Err {
		s.Errorf("reads: %v, want the first error, %v", err, reads[1].Err)
	}
	for i := range reads {
		if r := &reads[i]; i%2 == 0 && i < 4 || i == 5 {
			if r.Err != nil || len(r.Records) != 1 || r.Last != 1 {
				s.Errorf("read %d: %+v", i, r)
			}
		} else if pim.KindOf(r.Err) != pim.KindInvalid || r.Records != nil || r.Last != 0 {
			s.Errorf("read %d: %+v, want KindInvalid", i, r)
		}
	}
}

// readsAsOne checks that calls of Read that cannot be carried out fail for each read.
func (s *suite) readsAsOne() {
	s.commits(appendTo("log", 0, "x"))
	fails := func(ctx context.Context, what string, n int, want pim.Kind) {
		s.Helper()
		reads := make([]store.Read, n)
		for i := range reads {
			reads[i] = store.Read{Log: "log", From: 1, Limit: much, WithLast: true}
		}
		err := s.store.Read(ctx, reads)
		if err == nil || want != 0 && pim.KindOf(err) != want {
			s.Errorf("%s: %v, want kind %v", what, err, want)
		}
		for i := range reads {
			if r := &reads[i]; r.Err == nil || r.Records != nil || r.Last != 0 || want != 0 && pim.KindOf(r.Err) != want {
				s.Fatalf("%s, read %d: %+v", what, i, r)
			}
		}
	}
	fails(s.ctx, "too many reads", store.MaxBatch+1, pim.KindInvalid)
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	fails(ended, "reads with a cancelled context", 3, 0)
	s.end()
	fails(s.ctx, "reads after close", 3, pim.KindUnavailable)
}
