package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// before returns fs, changed to call do before the n-th operation that changes the disk.
func before(fs vfs.FS, n int64, do func()) vfs.FS {
	var seen atomic.Int64
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && seen.Add(1)-1 == n {
			do()
		}
		return nil
	}))
}

// fault makes operations that change the disk fail.
type fault struct {
	err   error
	files string // the suffix or prefix of the files' names; "": all
	from  int64  // the first that fails
	count int64  // how many fail, one after the other
	armed atomic.Bool
	seen  atomic.Int64
	hits  atomic.Int64
}

func (f *fault) MaybeError(op errorfs.Op) error {
	name := filepath.Base(op.Path)
	if !f.armed.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite ||
		!strings.HasPrefix(name, f.files) && !strings.HasSuffix(name, f.files) {
		return nil
	}
	if n := f.seen.Add(1) - 1; n < f.from || n >= f.from+f.count {
		return nil
	}
	f.hits.Add(1)
	return &errorAt{op, f.err}
}

func (f *fault) String() string {
	return fmt.Sprintf("%v on files %q, operations from %d, %d of them, hit %d times", f.err, f.files, f.from, f.count, f.hits.Load())
}

type errorAt struct {
	op  errorfs.Op
	err error
}

func (e *errorAt) Error() string { return fmt.Sprintf("injected into %s: %v", e.op.Path, e.err) }
func (e *errorAt) Unwrap() error { return e.err }

func randomFault(rng *rand.Rand) *fault {
	f := &fault{
		err:   []error{syscall.EIO, syscall.ENOSPC}[rng.IntN(2)],
		files: []string{"", "", ".log", ".sst", "MANIFEST"}[rng.IntN(5)],
		from:  rng.Int64N(300),
		count: []int64{1, 1, 3, 1 << 40}[rng.IntN(4)],
	}
	if f.files == ".sst" || f.files == "MANIFEST" {
		f.from /= 20
	}
	return f
}

// TestFaults makes random disk operations fail under concurrent commits. No
// acknowledgement may be false, no call may hang or end the process, all errors
// have kinds, and a store opened afterwards has all that was acknowledged.
func TestFaults(t *testing.T) {
	seed := seeds.First(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	failed, outlived := 0, 0
	for round := range rounds(seeds.Many(240)) {
		f := randomFault(rng)
		fs := vfs.NewCrashableMem()
		known := newLedger()
		s := open(t, "db", small(errorfs.Wrap(fs, f)))
		f.armed.Store(true)
		enough := known.expect(150)
		load := known.start(t, s, "", rng.Uint64())
		refused := make(chan struct{})
		go func() { load.running.Wait(); close(refused) }()
		select {
		case <-enough:
		case <-refused: // the load has ended by itself
		case <-unhealthy(s, enough):
		}
		f.armed.Store(false) // a write that found all memtables full waits until a table can be written
		load.end()
		<-refused
		known.seal(func() {})
		known.readableIn(t, s)
		err := s.Close()
		switch {
		case err == nil:
			outlived++
		case pim.KindOf(err) != pim.KindUnavailable:
			t.Errorf("close: %v", err)
		default:
			failed++
			if s.Health() == nil {
				t.Error("a store that failed says that it is healthy")
			}
		}
		after := open(t, "db", small(crash(fs, rng)))
		known.holdsIn(t, after)
		closes(t, after)
		if t.Failed() {
			t.Fatalf("in round %d: %v", round, f)
		}
	}
	t.Logf("%d stores failed, %d outlived the fault", failed, outlived)
}

// readableIn checks that a store, even one that has failed, can read the acknowledged
// records that nobody has begun to trim.
func (l *ledger) readableIn(t testing.TB, s store.Store) {
	t.Helper()
	for log, acked := range l.logs {
		for seq, want := range acked {
			records, err := store.ReadLog(context.Background(), s, log, seq, seq, store.Limit{Records: 1, Bytes: 1})
			if kind := pim.KindOf(err); seq <= l.trims[log] && (kind == pim.KindNotFound || kind == pim.KindUnavailable) {
				continue // it was trimmed, or nobody knows
			}
			if err != nil || len(records) != 1 || string(records[0]) != want {
				t.Fatalf("log %s at %d: %.40q, %v; the outside knows of %.40q", log, seq, records, err, want)
			}
		}
	}
}

// TestFaultsWhileOpening makes each operation of an Open fail, of a new store
// and of one to recover.
func TestFaultsWhileOpening(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	known := newLedger()
	crashed := vfs.NewCrashableMem()
	s := open(t, "db", small(crashed))
	enough := known.expect(100)
	load := known.start(t, s, "", 1)
	<-enough
	known.seal(func() { crashed = crash(crashed, rng) })
	load.end()
	closes(t, s)
	for name, make := range map[string]func() *vfs.MemFS{
		"new":     vfs.NewCrashableMem,
		"crashed": func() *vfs.MemFS { return crashed.CrashClone(vfs.CrashCloneCfg{}) },
	} {
		for i := int64(0); ; i++ {
			fs := make()
			f := &fault{err: []error{syscall.EIO, syscall.ENOSPC}[i%2], from: i, count: 1}
			f.armed.Store(true)
			s, err := pebble.Open("db", small(errorfs.Wrap(fs, f)))
			if err == nil {
				s.Close()
			} else if k := pim.KindOf(err); k != pim.KindUnavailable && k != pim.KindDiskFull {
				t.Errorf("%s store, operation %d: %v", name, i, err)
			}
			if f.hits.Load() == 0 {
				t.Logf("%s store: %d operations", name, i)
				break
			}
			for range 4 { // the disk may hold many different things after the fault
				s = open(t, "db", small(crash(fs, rng)))
				if name == "crashed" {
					known.holdsIn(t, s)
				}
				closes(t, s)
			}
		}
	}
}

// TestFailedStoreRefuses makes the write-ahead log fail for good. Each commit must get an
// error of the right kind at once.
func TestFailedStoreRefuses(t *testing.T) {
	for _, test := range []struct {
		err  error
		kind pim.Kind
	}{{syscall.EIO, pim.KindUnavailable}, {syscall.ENOSPC, pim.KindDiskFull}} {
		f := &fault{err: test.err, files: ".log", count: 1}
		s := open(t, "db", small(errorfs.Wrap(vfs.NewMem(), f)))
		appends(t, s, "log", 0, "kept")
		f.armed.Store(true)
		w := &store.Write{Log: "log", After: 1, Records: [][]byte{[]byte("lost")}}
		ctx := context.Background()
		err := store.Commit(ctx, s, []*store.Write{w}, store.Durable)
		if pim.KindOf(err) != test.kind || !errors.Is(err, store.ErrUnknown) || !errors.Is(err, test.err) || w.Err != err {
			t.Errorf("%v: commit %v, write %v", test.err, err, w.Err)
		}
		for range 2 {
			err = store.Commit(ctx, s, []*store.Write{w}, store.Durable)
			if pim.KindOf(err) != test.kind || errors.Is(err, store.ErrUnknown) {
				t.Errorf("%v: the next commit ended with %v", test.err, err)
			}
		}
		if err := s.Health(); pim.KindOf(err) != test.kind {
			t.Errorf("%v: health: %v", test.err, err)
		}
		// The record that may be on disk or not is not shown.
		if last, _, err := store.LogEnd(ctx, s, "log"); err != nil || last != 1 {
			t.Errorf("%v: last %d, %v", test.err, last, err)
		}
		records, err := store.ReadLog(ctx, s, "log", 1, 0, store.Limit{Records: 9, Bytes: 999})
		if err != nil || len(records) != 1 {
			t.Errorf("%v: read %q, %v", test.err, records, err)
		}
		if records, err := store.ReadLog(ctx, s, "log", 2, 0, store.Limit{Records: 9, Bytes: 999}); err != nil || len(records) != 0 {
			t.Errorf("%v: read %q, %v", test.err, records, err)
		}
		if err := s.Close(); pim.KindOf(err) != pim.KindUnavailable {
			t.Errorf("%v: close: %v", test.err, err)
		}
	}
}
