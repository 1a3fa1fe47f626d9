package pebble_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// sinks takes everything that s holds down to the lowest level, where no write and no compaction
// that Pebble begins by itself comes near it.
func sinks(t testing.TB, s *pebble.Store) {
	t.Helper()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
}

// diary holds logs and cells whose bytes a test looks for. Of each log what is written is erased,
// trimmed or left; of each second cell a value is erased.
type diary struct {
	t     testing.TB
	rng   *rand.Rand
	logs  map[store.Log][][]byte // the marks; nil: erased or trimmed
	gone  [][]byte
	cells uint64
}

func newDiary(t testing.TB, rng *rand.Rand) *diary {
	return &diary{t: t, rng: rng, logs: map[store.Log][][]byte{}}
}

func (d *diary) commits(s store.Store, writes ...*store.Write) {
	d.t.Helper()
	if err := store.Commit(context.Background(), s, writes, store.Durable); err != nil {
		d.t.Fatal(err)
	}
}

// writes appends n records each to some logs, and writes the first versions of n cells.
func (d *diary) writes(s store.Store, logs, n int) {
	d.t.Helper()
	for i := range logs {
		log := store.Log(fmt.Sprint("log ", i))
		for left := n; left > 0; {
			w := &store.Write{Log: log, After: pim.Seq(len(d.logs[log]))}
			for range min(left, 1+d.rng.IntN(5)) {
				record, mark := marked(d.rng, 30+d.rng.IntN(100))
				if d.rng.IntN(8) == 0 {
					record, mark = marked(d.rng, 3000)
				}
				w.Records, d.logs[log] = append(w.Records, record), append(d.logs[log], mark)
				left--
			}
			d.commits(s, w)
		}
	}
	for range n {
		value, mark := marked(d.rng, 60)
		d.cells++
		w := store.CellWrite{Partition: "cells", Cell: store.Cell{Key: fmt.Sprintf("%09d", d.cells), Version: 1, Value: value}}
		d.commits(s, &store.Write{Cells: []store.CellWrite{w}})
		if d.cells%2 == 0 {
			w.Version, w.Value, w.Erase = 2, nil, true
			d.commits(s, &store.Write{Cells: []store.CellWrite{w}})
			d.gone = append(d.gone, mark)
		}
	}
}

// erases erases and trims some of every log.
func (d *diary) erases(s store.Store) {
	d.t.Helper()
	for log, marks := range d.logs {
		w := &store.Write{Log: log, After: pim.Seq(len(marks))}
		for i := range marks {
			if marks[i] != nil && d.rng.IntN(4) == 0 {
				w.Erase = append(w.Erase, store.Erasure{Seq: pim.Seq(i + 1), Rest: []byte("erased")})
				d.gone, marks[i] = append(d.gone, marks[i]), nil
			}
		}
		d.commits(s, w)
		if d.rng.IntN(3) == 0 {
			upTo := 1 + d.rng.IntN(len(marks))
			d.commits(s, &store.Write{Log: log, Trim: pim.Seq(upTo)})
			for i := range upTo {
				if marks[i] != nil {
					d.gone, marks[i] = append(d.gone, marks[i]), nil
				}
			}
		}
	}
}

// holds checks that s has what was not erased.
func (d *diary) holds(s store.Store) {
	d.t.Helper()
	for log, marks := range d.logs {
		r := []store.Read{{Log: log, From: 1, Limit: store.Limit{Records: len(marks), Bytes: 1 << 30}, WithLast: true}}
		if err := s.Read(context.Background(), r); err != nil {
			d.t.Fatal(err)
		}
		if r[0].Last != pim.Seq(len(marks)) || len(r[0].Records) != len(marks)-int(r[0].First)+1 {
			d.t.Fatalf("%s: first %d, %d records, last %d; %d were written", log, r[0].First, len(r[0].Records), r[0].Last, len(marks))
		}
		for i, mark := range marks {
			if mark != nil && !bytes.HasPrefix(r[0].Records[i+1-int(r[0].First)], mark) {
				d.t.Fatalf("%s: the record at %d has changed", log, i+1)
			}
		}
	}
}

// left returns how many erased marks are in a file of db.
func (d *diary) left(fs vfs.FS) int { return holding(d.t, fs, "db", "", d.gone) }

func purges(t testing.TB, s *pebble.Store) {
	t.Helper()
	if err := s.Purge(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// After a purge no file of a running store holds what was erased or trimmed, wherever the bytes lay:
// in the lowest level, in any other, or in the write-ahead log. What was not erased is there, and
// nothing is left to be purged.
func TestPurge(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	for range rounds(seeds.Many(8)) {
		fs := vfs.NewMem()
		s := open(t, "db", pebble.Options{FS: fs, Logger: quiet(), MemTableBytes: 256 << 10}.WithSmallLevels())
		d := newDiary(t, rng)
		for range 3 {
			d.writes(s, 20, 60)
			if rng.IntN(2) == 0 {
				sinks(t, s)
			}
			d.writes(s, 20, 10)
			d.erases(s)
			purges(t, s)
			if n := d.left(fs); n != 0 {
				t.Errorf("the files hold %d of %d erased marks", n, len(d.gone))
			}
			if n := s.Keys('n'); n != 0 {
				t.Errorf("%d notes are left", n)
			}
			d.holds(s)
		}
		closes(t, s)
	}
}

// A purge that lacks one of its parts leaves bytes: the ranges that were noted, or the files of the
// write-ahead log.
func TestBadPurges(t *testing.T) {
	for _, without := range []string{"ranges", "logs"} {
		fs := vfs.NewMem()
		s := open(t, "db", pebble.Options{FS: fs, Logger: quiet()})
		d := newDiary(t, rand.New(rand.NewPCG(1, 1)))
		d.writes(s, 5, 20)
		if without == "ranges" {
			sinks(t, s)
		}
		d.erases(s)
		if err := s.PurgeBadly(without); err != nil {
			t.Fatal(err)
		}
		if d.left(fs) == 0 {
			t.Errorf("a purge without %s leaves nothing", without)
		}
		closes(t, s)
	}
}

// A purge begins when an hour has passed since the first erasure, and at once after a start that finds
// notes of what was erased before.
func TestPurgeWhenDue(t *testing.T) {
	var clock atomic.Int64
	fs := vfs.NewMem()
	o := pebble.Options{
		FS: fs, Logger: quiet(), PurgeEvery: time.Hour, Mono: func() time.Duration { return time.Duration(clock.Load()) },
	}.Hurried()
	s := open(t, "db", o)
	d := newDiary(t, rand.New(rand.NewPCG(seeds.First(t), 0)))
	purged := func(times uint64) {
		t.Helper()
		for deadline := time.Now().Add(5 * time.Minute); s.Metrics().Purges < times; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no purge begins")
			}
		}
		if n := d.left(fs); n != 0 {
			t.Errorf("the files hold %d of %d erased marks", n, len(d.gone))
		}
	}
	for times := range uint64(2) {
		d.writes(s, 5, 20)
		sinks(t, s)
		d.erases(s)
		clock.Add(int64(time.Hour) - 1)
		if s.PurgeIsDue() {
			t.Error("a purge is due before an hour has passed")
		}
		clock.Add(1)
		purged(times + 1)
	}
	d.writes(s, 5, 20)
	sinks(t, s)
	d.erases(s)
	closes(t, s)
	if d.left(fs) == 0 {
		t.Error("nothing is left for the next start")
	}
	s = open(t, "db", o)
	purged(1)
	d.holds(s)
	closes(t, s)
}

// The power is cut at any moment of a purge. The next start purges what that one has left.
func TestCrashWhilePurging(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	o := func(fs vfs.FS) pebble.Options {
		return pebble.Options{FS: fs, Logger: quiet(), MemTableBytes: 128 << 10}.WithSmallLevels()
	}
	for range rounds(seeds.Many(40)) {
		fs := vfs.NewCrashableMem()
		d := newDiary(t, rng)
		s := open(t, "db", o(fs))
		d.writes(s, 5, 40)
		sinks(t, s)
		d.writes(s, 5, 5)
		d.erases(s)
		closes(t, s)
		var crashed atomic.Pointer[vfs.MemFS]
		s = open(t, "db", o(before(fs, rng.Int64N(80), func() { crashed.Store(crash(fs, rng)) })))
		purges(t, s)
		closes(t, s)
		if next := crashed.Load(); next != nil {
			fs = next
		}
		s = open(t, "db", o(fs))
		purges(t, s)
		if n := d.left(fs); n != 0 {
			t.Errorf("the files hold %d of %d erased marks", n, len(d.gone))
		}
		d.holds(s)
		closes(t, s)
	}
}

// Purges run beside writes, erasures and trims of the same logs. Nothing is left when the last one has
// ended. Close waits for none of them.
func TestPurgeUnderLoad(t *testing.T) {
	seed := seeds.First(t)
	fs := vfs.NewMem()
	s := open(t, "db", small(fs)) // purges all the time
	var running sync.WaitGroup
	diaries := make([]*diary, 3)
	for i := range diaries {
		running.Go(func() {
			d := newDiary(t, rand.New(rand.NewPCG(seed, uint64(i))))
			diaries[i] = d
			for round := range rounds(seeds.Many(16)) {
				own := prefixed{s, fmt.Sprint(i, "/")}
				d.writes(own, 4, 20)
				if round%2 == 0 {
					d.erases(own)
				}
			}
		})
	}
	running.Wait()
	for deadline := time.Now().Add(5 * time.Minute); s.Unpurged(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the purges do not end")
		}
	}
	for i, d := range diaries {
		if n := d.left(fs); n != 0 {
			t.Errorf("the files hold %d of %d erased marks", n, len(d.gone))
		}
		d.holds(prefixed{s, fmt.Sprint(i, "/")})
	}
	d := diaries[0]
	d.erases(prefixed{s, "0/"})
	closes(t, s)
}

// A purge ends although something is erased all the time: what came after its begin is for the next.
func TestAPurgeEndsWhileMoreIsErased(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "db", pebble.Options{FS: fs, Logger: quiet()})
	d := newDiary(t, rand.New(rand.NewPCG(seeds.First(t), 0)))
	d.writes(s, 5, 20)
	d.erases(s)
	var erasing sync.WaitGroup
	stop := make(chan struct{})
	var begun sync.WaitGroup
	erases := func(partition store.Partition) {
		for n := uint64(1); ; n++ {
			if n == 2 {
				begun.Done()
			}
			select {
			case <-stop:
				return
			default:
				d := store.Cell{Key: "fold", Version: n, Value: []byte("the text before")}
				err := store.Commit(t.Context(), s, []*store.Write{{Cells: []store.CellWrite{{Partition: partition, Cell: d, Erase: true}}}}, store.Relaxed)
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	}
	for i := range 8 {
		begun.Add(1)
		erasing.Go(func() { erases(store.Partition(fmt.Sprint("other", i))) })
	}
	begun.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := s.Purge(ctx); err != nil {
		t.Errorf("the purge does not end: %v", err)
	}
	close(stop)
	erasing.Wait()
	if n := d.left(fs); n != 0 {
		t.Errorf("the files hold %d of %d erased marks", n, len(d.gone))
	}
	closes(t, s)
}

// prefixed is a store whose logs and partitions have names of their own.
type prefixed struct {
	store.Store
	prefix string
}

func (p prefixed) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		w.Log = store.Log(p.prefix) + w.Log
		for i := range w.Cells {
			w.Cells[i].Partition = store.Partition(p.prefix) + w.Cells[i].Partition
		}
	}
	p.Store.Begin(ctx, writes, d, done)
}

func (p prefixed) Read(ctx context.Context, reads []store.Read) error {
	for i := range reads {
		reads[i].Log = store.Log(p.prefix) + reads[i].Log
	}
	return p.Store.Read(ctx, reads)
}
