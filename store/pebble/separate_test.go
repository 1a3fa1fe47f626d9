package pebble_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// writeLong appends so many chunks of 4 KiB of noise to each of 50 logs, which only this
// writer writes to.
func writeLong(t *testing.T, s *pebble.Store, writer, chunks int) {
	rng := rand.New(rand.NewPCG(uint64(writer), 0))
	const logs = 50
	for i := range chunks {
		var writes []*store.Write
		for log := range logs {
			record := make([]byte, 4<<10)
			for i := range record {
				record[i] = byte(rng.Uint32())
			}
			writes = append(writes, &store.Write{
				Log:   store.Log(fmt.Sprintf("log %d of %d", log, writer)),
				After: pim.Seq(i), Records: [][]byte{record},
			})
		}
		if err := store.Commit(context.Background(), s, writes, store.Durable); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestLongChunksAreWrittenOnce checks that a store writes long chunks of many logs once
// to the write-ahead log, once to a table, and seldom again, however much it holds.
func TestLongChunksAreWrittenOnce(t *testing.T) {
	s := open(t, "db", pebble.Options{FS: vfs.NewMem(), MemTableBytes: 256 << 10, Logger: quiet()})
	defer closes(t, s)
	var writing sync.WaitGroup
	for writer := range 2 {
		writing.Go(func() { writeLong(t, s, writer, 150) })
	}
	writing.Wait()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if work := s.Work(); work.Amplification() > 3.5 { // 4 and more if they are merged with the short keys
		t.Errorf("%.1f bytes were written for one that was committed; %s", work.Amplification(), work)
	}
}

// TestTablesOfOneStream checks the reason for the last test's result: no table holds long
// chunks of two streams, and no two tables with long chunks overlap.
func TestTablesOfOneStream(t *testing.T) {
	s := open(t, "db", pebble.Options{FS: vfs.NewMem(), MemTableBytes: 1 << 20, Logger: quiet()})
	defer closes(t, s)
	var writing sync.WaitGroup
	for writer := range 4 {
		writing.Go(func() { writeLong(t, s, writer, 20) })
	}
	writing.Wait()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	tables := s.Tables('v')
	if len(tables) < 4 {
		t.Errorf("%d tables", len(tables))
	}
	for i, x := range tables {
		if !bytes.Equal(x[0][:2], x[1][:2]) {
			t.Errorf("a table from %x to %x", x[0], x[1])
		}
		for _, y := range tables[:i] {
			if bytes.Compare(x[0], y[1]) <= 0 && bytes.Compare(y[0], x[1]) <= 0 {
				t.Errorf("tables from %x to %x and from %x to %x", x[0], x[1], y[0], y[1])
			}
		}
	}
}

// TestMoreCommitsThanStreams checks that a commit that finds no stream succeeds, with its
// chunks under their logs' keys.
func TestMoreCommitsThanStreams(t *testing.T) {
	s := open(t, "db", small(vfs.NewMem()))
	defer closes(t, s)
	giveBack := s.TakeStreams()
	long := bytes.Repeat([]byte("long"), 10_000)
	appends(t, s, "log", 0, string(long))
	if n := s.Keys('v'); n != 0 {
		t.Errorf("%d chunks are kept apart", n)
	}
	giveBack()
	appends(t, s, "log", 1, string(long))
	if n := s.Keys('v'); n != 1 {
		t.Errorf("%d chunks are kept apart", n)
	}
	records, err := store.ReadLog(context.Background(), s, "log", 1, 0, store.Limit{Records: 10, Bytes: 1 << 20})
	if err != nil || len(records) != 2 || !bytes.Equal(records[0], long) || !bytes.Equal(records[1], long) {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// TestStreamsGoOn checks that a store that is opened again overwrites no chunk.
func TestStreamsGoOn(t *testing.T) {
	fs := vfs.NewMem()
	for i := range 5 {
		s := open(t, "db", small(fs))
		appends(t, s, "log", pim.Seq(i), fmt.Sprintf("%0100d", i))
		if n := s.Keys('v'); n != i+1 {
			t.Errorf("%d chunks are kept apart, not %d", n, i+1)
		}
		records, err := store.ReadLog(context.Background(), s, "log", 1, 0, store.Limit{Records: 10, Bytes: 1 << 20})
		if err != nil || len(records) != i+1 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		for j, r := range records {
			if want := fmt.Sprintf("%0100d", j); string(r) != want {
				t.Errorf("record %d is %s", j+1, r)
			}
		}
		closes(t, s)
	}
}

// unreadable makes one read of a table fail.
type unreadable struct {
	at    int64 // the number of the read, from 0
	armed atomic.Bool
	seen  atomic.Int64
}

func (*unreadable) String() string { return "unreadable" }

func (x *unreadable) MaybeError(op errorfs.Op) error {
	if op.Kind != errorfs.OpFileReadAt || filepath.Ext(op.Path) != ".sst" || !x.armed.Load() || x.seen.Add(1)-1 != x.at {
		return nil
	}
	return &errorAt{op, syscall.EIO}
}

// TestStreamsThatCannotBeRead makes each read of an Open fail, one at a time. If the
// store cannot read where its streams go on, it must not open, because it would overwrite
// chunks.
func TestStreamsThatCannotBeRead(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "db", small(fs))
	record := func(i int) string { return fmt.Sprintf("%0100d", i) }
	appends(t, s, "log", 0, record(0))
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	refused := 0
	for written, at := 1, int64(0); ; at++ {
		x := &unreadable{at: at}
		x.armed.Store(true)
		s, err := pebble.Open("db", small(errorfs.Wrap(fs, x)))
		x.armed.Store(false)
		if err != nil {
			refused++
			continue
		}
		appends(t, s, "log", pim.Seq(written), record(written))
		written++
		records, err := store.ReadLog(context.Background(), s, "log", 1, 0, store.Limit{Records: 1000, Bytes: 1 << 20})
		if err != nil || len(records) != written {
			t.Fatalf("read %d: %d records of %d, %v", at, len(records), written, err)
		}
		for i, r := range records {
			if string(r) != record(i) {
				t.Fatalf("read %d: record %d is %s", at, i+1, r)
			}
		}
		closes(t, s)
		if x.seen.Load() <= at { // no read failed: every read of an Open was tried
			break
		}
	}
	if refused == 0 {
		t.Error("no read of a start failed")
	}
}

// TestAChunkThatIsGone checks that a malformed reference, or a reference to no chunk, is
// corruption.
func TestAChunkThatIsGone(t *testing.T) {
	for name, harm := range map[string]func(*pebble.Store) error{
		"its chunk is gone":  func(s *pebble.Store) error { return s.DropChunks() },
		"it is cut off":      func(s *pebble.Store) error { return s.SetChunk("log", 2, []byte{0, 0, 0}) },
		"it is of no stream": func(s *pebble.Store) error { return s.SetChunk("log", 2, []byte{0, 200, 0, 0, 0, 0, 0, 0, 0, 0}) },
		"it is to no chunk":  func(s *pebble.Store) error { return s.SetChunk("log", 2, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 9}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, "db", small(vfs.NewMem()))
			defer s.Close()
			appends(t, s, "log", 0, "short", fmt.Sprintf("%0100d", 2))
			if err := harm(s); err != nil {
				t.Fatal(err)
			}
			_, err := store.ReadLog(context.Background(), s, "log", 1, 0, store.Limit{Records: 10, Bytes: 1 << 20})
			if pim.KindOf(err) != pim.KindCorrupt {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A write that cannot erase writes nothing, no passing cell either.
func TestAWriteThatCannotErase(t *testing.T) {
	ctx := t.Context()
	s := open(t, "db", small(vfs.NewMem()))
	defer s.Close()
	appends(t, s, "log", 0, "one", "two")
	if err := s.SetChunk("log", 2, []byte{0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	w := &store.Write{
		Log: "log", After: 2, Records: [][]byte{[]byte("three")},
		Erase: []store.Erasure{{Seq: 1, Rest: []byte("r")}},
		Cells: []store.CellWrite{
			{Partition: "p", Cell: store.Cell{Key: "k", Version: 3}},
			{Partition: "~p", Cell: store.Cell{Key: "k", Version: 3}},
		},
	}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); pim.KindOf(err) != pim.KindCorrupt {
		t.Fatal(err)
	}
	for _, p := range []store.Partition{"p", "~p"} {
		if cells, err := s.List(ctx, p, "", 10); err != nil || len(cells) > 0 {
			t.Errorf("%s has %v, %v", p, cells, err)
		}
	}
}

// Records are erased from chunks under their log's key and from chunks that are kept apart. The
// erasures survive a crash and a compaction, and nothing else of the chunks changes.
func TestErasuresLast(t *testing.T) {
	ctx, fs := context.Background(), vfs.NewCrashableMem()
	s := open(t, "db", small(fs))
	var want [][]byte
	for i := range 40 {
		r := bytes.Repeat([]byte{byte(i)}, 1+i*i*8)
		want = append(want, r)
		appends(t, s, "log", pim.Seq(i), string(r))
	}
	apart := s.Keys('v')
	if apart == 0 || apart == 40 {
		t.Fatalf("%d of 40 chunks are kept apart", apart)
	}
	w := &store.Write{Log: "log", After: 40}
	for i := 0; i < 40; i += 3 {
		want[i] = []byte{'r', byte(i)}
		w.Erase = append(w.Erase, store.Erasure{Seq: pim.Seq(i + 1), Rest: want[i]})
	}
	if err := store.Commit(ctx, s, []*store.Write{w}, store.Durable); err != nil || w.Err != nil {
		t.Fatal(err, w.Err)
	}
	holds := func(when string) {
		t.Helper()
		records, err := store.ReadLog(ctx, s, "log", 1, 0, store.Limit{Records: 100, Bytes: 1 << 30})
		if err != nil || len(records) != len(want) {
			t.Fatalf("%s: %d records, %v", when, len(records), err)
		}
		for i := range want {
			if !bytes.Equal(records[i], want[i]) {
				t.Fatalf("%s: at %d there is %.20q", when, i+1, records[i])
			}
		}
		if n := s.Keys('v'); n != apart {
			t.Errorf("%s: %d chunks are kept apart, it were %d", when, n, apart)
		}
	}
	holds("at once")
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	closes(t, s)
	s = open(t, "db", small(crashed))
	holds("after a crash")
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	holds("after a compaction")
	appends(t, s, "log", 40, "and on")
	closes(t, s)
}
