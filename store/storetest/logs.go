package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

func (s *suite) appendIsDense() {
	s.ends("log", 0)
	s.commits(appendTo("log", 0, "record 1"))
	s.commits(appendTo("log", 1, numbered(2, 9)...))
	s.commits(appendTo("log", 9, numbered(10, 1200)...)) // more records than any engine stores in one piece
	s.commits(appendTo("log", 1200, "record 1201"))
	s.ends("log", 1201)
	s.reads("log", 1, 0, much, asBytes(numbered(1, 1201))...)
	for _, r := range [][2]int{{1, 1}, {2, 2}, {9, 10}, {255, 258}, {700, 1201}, {1201, 1201}} {
		s.reads("log", pim.Seq(r[0]), pim.Seq(r[1]), much, asBytes(numbered(r[0], r[1]))...)
	}
	s.commits(appendTo("odd", 0, "", "\x00", "\xff", "")) // records may hold any bytes, or none
	s.reads("odd", 1, 0, much, []byte{}, []byte{0}, []byte{0xff}, []byte{})
}

func (s *suite) appendConflicts() {
	s.conflicts(appendTo("log", 1, "x"), 0)
	s.commits(appendTo("log", 0, numbered(1, 5)...))
	for _, after := range []pim.Seq{0, 1, 4, 6, 1 << 62, ^pim.Seq(0)} {
		s.conflicts(appendTo("log", after, "x"), 5)
	}
	s.ends("log", 5)
	s.reads("log", 1, 0, much, asBytes(numbered(1, 5))...)

	won, lost := appendTo("log", 5, "record 6"), appendTo("other", 7, "x")
	if err := store.Commit(s.ctx, s.store, []*store.Write{lost, won}, store.Durable); err != nil {
		s.Fatalf("commit: %v", err)
	}
	if won.Err != nil || lost.Err == nil {
		s.Fatalf("a conflict next to a good append: %v and %v", won.Err, lost.Err)
	}
	s.ends("log", 6)
	s.ends("other", 0)
}

// oneAppenderWins lets appenders race for every seq of one log. The log must hold each
// appender's record exactly at the seqs for which its append was acknowledged.
func (s *suite) oneAppenderWins() {
	const appenders, positions = 8, 25
	var wins [appenders][]pim.Seq
	var running sync.WaitGroup
	var failed atomic.Bool
	for a := range appenders {
		running.Go(func() {
			var last pim.Seq
			for last < positions && !failed.Load() {
				w := appendTo("log", last, fmt.Sprintf("%d by %d", last+1, a))
				err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable)
				var conflict *store.ConflictError
				switch {
				case err != nil:
					s.Errorf("commit: %v", err)
					failed.Store(true)
				case w.Err == nil:
					last++
					wins[a] = append(wins[a], last)
				case !errors.As(w.Err, &conflict) || conflict.Last <= last:
					s.Errorf("append after %d: %v", last, w.Err)
					failed.Store(true)
				default:
					last = conflict.Last
				}
			}
		})
	}
	running.Wait()
	records := s.follow("log", 1, 0)
	total := 0
	for a := range wins {
		total += len(wins[a])
		for _, seq := range wins[a] {
			if want := fmt.Sprintf("%d by %d", seq, a); int(seq) > len(records) || string(records[seq-1]) != want {
				s.Fatalf("position %d does not hold %q, which was acknowledged", seq, want)
			}
		}
	}
	if total != len(records) {
		s.Fatalf("%d appends were acknowledged, the log holds %d", total, len(records))
	}
}

func (s *suite) manyLogs() {
	for round := range 3 {
		var writes []*store.Write
		for i := range 100 {
			w := appendTo(store.Log(fmt.Sprintf("log %d", i)), pim.Seq(2*round), numbered(2*round+1, 2*round+2)...)
			w.Cells = []store.CellWrite{cell("heads", fmt.Sprintf("%02d", i), uint64(2*round+2), "v")}
			writes = append(writes, w)
		}
		s.commits(writes...)
	}
	for i := range 100 {
		s.reads(store.Log(fmt.Sprintf("log %d", i)), 1, 0, much, asBytes(numbered(1, 6))...)
		s.holds("heads", fmt.Sprintf("%02d", i), 6, "v")
	}
	s.commits() // no writes at all
}

// logTwice lets two appends to one log race, also within one Begin. One of them wins.
func (s *suite) logTwice() {
	one, other := appendTo("log", 0, "one"), appendTo("log", 0, "other")
	one.Cells = []store.CellWrite{cell("p", "one", 1, "v")}
	other.Cells = []store.CellWrite{cell("p", "other", 1, "v")}
	if err := store.Commit(s.ctx, s.store, []*store.Write{one, other}, store.Durable); err != nil {
		s.Fatalf("commit: %v", err)
	}
	won, lost := one, other
	if one.Err != nil {
		won, lost = other, one
	}
	var conflict *store.ConflictError
	if won.Err != nil || !errors.As(lost.Err, &conflict) || conflict.Last != 1 {
		s.Fatalf("one append ended with %v, the other with %v; want a conflict with the last seq 1", one.Err, other.Err)
	}
	s.reads("log", 1, 0, much, won.Records[0])
	s.holds("p", won.Cells[0].Key, 1, "v")
	s.holds("p", lost.Cells[0].Key, 0, "")

	// A write without records ignores its Log and After.
	bare := &store.Write{Log: "log", After: 99, Cells: lost.Cells}
	s.commits(appendTo("log", 1, "second"), bare)
	s.holds("p", lost.Cells[0].Key, 1, "v")
}

func (s *suite) failedAppendNoCells() {
	w := appendTo("log", 3, "x")
	w.Cells = []store.CellWrite{cell("p", "k", 4, "v")}
	s.conflicts(w, 0)
	s.holds("p", "k", 0, "")
	s.lists("p", "", 10)
	w = appendTo("log", 0, "x")
	w.Cells = []store.CellWrite{cell("p", "k", 1, "v"), cell("p", "l", 1, "w")}
	s.commits(w)
	s.holds("p", "k", 1, "v")
	s.holds("p", "l", 1, "w")
}

// raise returns a write that raises the fence of log.
func raise(log store.Log, cells ...store.CellWrite) *store.Write {
	return &store.Write{Log: log, Raise: true, Cells: cells}
}

func (s *suite) fences() {
	if f := s.fence("log", 0); f != 0 {
		s.Fatalf("the fence of an empty log is %d", f)
	}
	s.commits(raise("log", cell("p", "k", 1, "v"))) // a log without records has a fence, too
	first := s.fence("log", 0)
	if first == 0 {
		s.Fatal("the fence was not raised")
	}
	s.holds("p", "k", 1, "v")
	s.reads("log", 1, 0, much)
	stale := appendTo("log", 0, "stale")
	stale.Cells = []store.CellWrite{cell("p", "k", 2, "stale")}
	s.conflicts(stale, 0)
	s.holds("p", "k", 1, "v")
	var conflict *store.ConflictError
	if !errors.As(stale.Err, &conflict) || conflict.Fence != first {
		s.Fatalf("%v, the fence is %d", stale.Err, first)
	}

	append3 := appendTo("log", 0, numbered(1, 3)...)
	append3.Fence = first
	s.commits(append3)
	if f := s.fence("log", 3); f != first {
		s.Fatalf("an append changed the fence from %d to %d", first, f)
	}
	for range 3 {
		before := s.fence("log", 3)
		again := raise("log")
		again.After, again.Fence = 99, 99 // which say nothing
		s.commits(again)
		after := s.fence("log", 3)
		if after <= before {
			s.Fatalf("the fence was raised from %d to %d", before, after)
		}
		for _, f := range []uint64{0, before, after + 1} {
			w := appendTo("log", 3, "x")
			w.Fence = f
			s.conflicts(w, 3)
		}
	}
	next := appendTo("log", 3, numbered(4, 4)...)
	next.Fence = s.fence("log", 3)
	s.commits(next)
	s.reads("log", 1, 0, much, asBytes(numbered(1, 4))...)
	s.reads("log", 5, 0, much)
	s.reads("log", ^pim.Seq(0), 0, much)
	s.commits(appendTo("lo", 0, "x"), appendTo("log ", 0, "x")) // other logs have fences of their own
}

// fencesHold lets raises and appends to one log race. An append whose fence was read before
// a raise that is acknowledged does not take effect, though its seq is the next.
func (s *suite) fencesHold() {
	const rounds, racers = 20, 4
	var running sync.WaitGroup
	for range racers {
		running.Go(func() {
			for range rounds {
				_, before, err := store.LogEnd(s.ctx, s.store, "log")
				if err == nil {
					err = store.Commit(s.ctx, s.store, []*store.Write{raise("log")}, store.Durable)
				}
				last, now, lerr := store.LogEnd(s.ctx, s.store, "log")
				if err = errors.Join(err, lerr); err != nil {
					s.Errorf("raise: %v", err)
					return
				}
				old, current := appendTo("log", last, "old"), appendTo("log", last, "current")
				old.Fence, current.Fence = before, now
				err = store.Commit(s.ctx, s.store, []*store.Write{old, current}, store.Durable)
				if err != nil || old.Err == nil {
					s.Errorf("an append with fence %d took effect, the fence was %d: %v", before, now, err)
					return
				}
			}
		})
	}
	running.Wait()
	last, fence, err := store.LogEnd(s.ctx, s.store, "log")
	if err != nil {
		s.Fatal(err)
	}
	w := appendTo("log", last, "current")
	w.Fence = fence
	s.commits(w)
	last++
	records := s.follow("log", 1, 0)
	if len(records) != int(last) {
		s.Fatalf("%d records, the last seq is %d", len(records), last)
	}
	for i, r := range records {
		if string(r) != "current" {
			s.Fatalf("record %d is %q", i+1, r)
		}
	}
}

func (s *suite) readLimits() {
	s.commits(appendTo("log", 0, "aaaa", "bbbb"))
	s.commits(appendTo("log", 2, "cccc"))
	s.commits(appendTo("log", 3, "dddddddd", "e"))
	all := [][]byte{[]byte("aaaa"), []byte("bbbb"), []byte("cccc"), []byte("dddddddd"), []byte("e")}
	for n := 1; n <= 6; n++ {
		s.reads("log", 1, 0, store.Limit{Records: n, Bytes: 1 << 20}, all[:min(n, 5)]...)
	}
	for bytes, n := range map[int]int{1: 1, 4: 1, 7: 1, 8: 2, 11: 2, 12: 3, 19: 3, 20: 4, 21: 5, 99: 5} {
		s.reads("log", 1, 0, store.Limit{Records: 99, Bytes: bytes}, all[:n]...)
	}
	s.reads("log", 4, 0, store.Limit{Records: 99, Bytes: 1}, all[3]) // the first record, whatever its size
	s.reads("log", 2, 4, store.Limit{Records: 2, Bytes: 8}, all[1], all[2])
	for _, l := range []store.Limit{{Bytes: 1}, {Records: 1}, {Records: -1, Bytes: 1}, {Records: 1, Bytes: -1}} {
		if _, err := store.ReadLog(s.ctx, s.store, "log", 1, 0, l); pim.KindOf(err) != pim.KindInvalid {
			s.Errorf("read with limit %v: %v, want KindInvalid", l, err)
		}
	}
}

func (s *suite) readEdges() {
	s.reads("none", 1, 0, much)
	s.reads("none", 7, 9, much)
	s.commits(appendTo("log", 0, numbered(1, 4)...))
	s.commits(appendTo("log", 4, numbered(5, 6)...))
	all := asBytes(numbered(1, 6))
	s.reads("log", 0, 0, much, all...) // seq 0 is before the first record
	s.reads("log", 1, 6, much, all...)
	s.reads("log", 1, 99, much, all...)
	s.reads("log", 3, 5, much, all[2:5]...)
	s.reads("log", 6, 6, much, all[5])
	s.reads("log", 6, 0, much, all[5])
	s.reads("log", 7, 0, much)
	s.reads("log", 5, 4, much)
	s.reads("log", ^pim.Seq(0), 0, much)
	s.reads("log", 6, ^pim.Seq(0), much, all[5])
}

func (s *suite) bigRecords() {
	big := bytes.Repeat([]byte("0123456789abcdef"), pim.MaxPayload/16)
	w := &store.Write{Log: "log"}
	for i := range 5 {
		b := bytes.Clone(big)
		b[0] = byte(i)
		w.Records = append(w.Records, b, []byte{byte(i)})
	}
	s.commits(w)
	s.reads("log", 1, 0, much, w.Records...)
	s.reads("log", 9, 0, much, w.Records[8:]...)
	largest := bytes.Repeat([]byte{7}, store.MaxRecordBytes)
	s.commits(&store.Write{Log: "log", After: 10, Records: [][]byte{largest}, Cells: []store.CellWrite{
		cell("p", "k", 1, string(largest[:store.MaxValueBytes])),
	}})
	s.reads("log", 11, 0, store.Limit{Records: 1, Bytes: 1}, largest)
	s.holds("p", "k", 1, string(largest[:store.MaxValueBytes]))
}

// largeWrites appends and erases as much as one write may, and more.
func (s *suite) largeWrites() {
	w := &store.Write{Log: "log"}
	for left := store.MaxAppendBytes; left > 0; left -= len(w.Records[len(w.Records)-1]) {
		w.Records = append(w.Records, bytes.Repeat([]byte{7}, min(left, store.MaxRecordBytes-1)))
	}
	s.commits(w)
	s.reads("log", 1, 0, much, w.Records...)
	last := pim.Seq(len(w.Records))
	larger := &store.Write{Log: "log", After: last, Records: append(w.Records, []byte{7}), Cells: []store.CellWrite{cell("p", "k", 1, "v")}}
	s.invalid("an append that is too large", larger, store.Durable)
	both := &store.Write{Log: "log", After: last, Records: w.Records, Erase: []store.Erasure{{Seq: 1, Rest: []byte{7}}}}
	s.invalid("an append with a rest that is too large", both, store.Durable)
	s.holds("p", "k", 0, "")
	s.ends("log", last)
	s.reads("log", 1, 1, much, w.Records[0])
}

// copies overwrites all bytes that it gave to the store or got from it. The content of the
// store must stay the same.
func (s *suite) copies() {
	scratch := []byte("scratch")
	w := &store.Write{Log: "log", Records: [][]byte{scratch, scratch}, Cells: []store.CellWrite{
		{Partition: "p", Cell: store.Cell{Key: "k", Version: 1, Value: scratch}},
	}}
	s.commits(w)
	clear(scratch)
	for range 2 {
		records := s.follow("log", 1, 0)
		if len(records) != 2 || string(records[0]) != "scratch" || string(records[1]) != "scratch" {
			s.Fatalf("read: %q", records)
		}
		clear(records[0])
		if _ = append(records[0], "overflow"...); string(records[1]) != "scratch" {
			s.Fatal("appending to one record changes the next")
		}
		clear(records[1])
		s.holds("p", "k", 1, "scratch")
		c, _, _ := store.Lookup(s.ctx, s.store, "p", "k")
		clear(c.Value)
		cells, err := s.store.List(s.ctx, "p", "", 1)
		if err != nil || len(cells) != 1 || string(cells[0].Value) != "scratch" {
			s.Fatalf("list: %v, %v", cells, err)
		}
		clear(cells[0].Value)
	}
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	w := appendTo("log", 0, "x")
	w.Cells = []store.CellWrite{cell("p", "k", 1, "v")}
	if err := store.Commit(ctx, s.store, []*store.Write{w}, store.Durable); err == nil || w.Err == nil {
		s.Errorf("commit with a cancelled context: %v and %v", err, w.Err)
	}
	if _, err := store.ReadLog(ctx, s.store, "log", 1, 0, much); err == nil {
		s.Error("read with a cancelled context: no error")
	}
	if _, _, err := store.LogEnd(ctx, s.store, "log"); err == nil {
		s.Error("last with a cancelled context: no error")
	}
	if _, _, err := store.Lookup(ctx, s.store, "p", "k"); err == nil {
		s.Error("get with a cancelled context: no error")
	}
	if _, err := s.store.List(ctx, "p", "", 1); err == nil {
		s.Error("list with a cancelled context: no error")
	}
	s.cancelledMidway()
}

// cancelledMidway cancels appends at random moments. An acknowledged append is in the
// log. A failed one is not, unless its outcome is unknown. The log stays dense.
func (s *suite) cancelledMidway() {
	var want [][]byte
	for i := range 200 {
		ctx, cancel := context.WithCancel(s.ctx)
		w := appendTo("midway", pim.Seq(len(want)), fmt.Sprint(i))
		var running sync.WaitGroup
		running.Go(cancel)
		err := store.Commit(ctx, s.store, []*store.Write{w}, store.Durable)
		running.Wait()
		last, _, lerr := store.LogEnd(s.ctx, s.store, "midway")
		if lerr != nil {
			s.Fatal(lerr)
		}
		there := int(last) == len(want)+1
		if there {
			want = append(want, w.Records[0])
		}
		if int(last) != len(want) || err == nil && !there || err != nil && there && !errors.Is(err, store.ErrUnknown) {
			s.Fatalf("append %d ended with %v, the log at %d, the test at %d", i, err, last, len(want))
		}
	}
	s.reads("midway", 1, 0, much, want...)
}

// health asks for the store's health while it accepts writes, and after it was closed.
func (s *suite) health() {
	for i := range 9 {
		if err := s.store.Health(); err != nil {
			s.Fatalf("health: %v", err)
		}
		s.commits(appendTo("log", pim.Seq(i), "x"))
	}
	s.end()
	s.unavailable("health", s.store.Health())
}

func (s *suite) close() {
	s.commits(appendTo("log", 0, "x"))
	s.end()
	w := appendTo("log", 1, "y")
	err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable)
	s.unavailable("commit", err)
	s.unavailable("the commit's write", w.Err)
	if errors.Is(err, store.ErrUnknown) {
		s.Errorf("commit: %v; its outcome is known", err)
	}
	_, err = store.ReadLog(s.ctx, s.store, "log", 1, 0, much)
	s.unavailable("read", err)
	_, _, err = store.LogEnd(s.ctx, s.store, "log")
	s.unavailable("last", err)
	_, _, err = store.Lookup(s.ctx, s.store, "p", "k")
	s.unavailable("get", err)
	_, err = s.store.List(s.ctx, "p", "", 1)
	s.unavailable("list", err)
	s.unavailable("barrier", s.store.Barrier(s.ctx))
	s.unavailable("close", s.store.Close())
}

func (s *suite) unavailable(what string, err error) {
	s.Helper()
	if pim.KindOf(err) != pim.KindUnavailable {
		s.Errorf("%s after close: %v, want KindUnavailable", what, err)
	}
}
