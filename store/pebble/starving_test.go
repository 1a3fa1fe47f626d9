package pebble_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

// shortage is a process that is out of file descriptors: openings of files whose names
// have the suffix fail, as often as left says.
type shortage struct {
	err    error
	suffix string
	left   atomic.Int64
	hits   atomic.Int64
}

func (*shortage) String() string { return "shortage" }

func (s *shortage) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpOpen, errorfs.OpOpenDir, errorfs.OpReuseForWrite:
	default:
		return nil
	}
	if !strings.HasSuffix(filepath.Base(op.Path), s.suffix) || s.left.Add(-1) < 0 {
		return nil
	}
	s.hits.Add(1)
	return &errorAt{op, s.err}
}

// The store cannot open some file, a few times, for want of a file descriptor. It loses
// nothing, and goes on by itself.
func TestOutOfFileDescriptors(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	hits := int64(0)
	for round, enough := 0, rounds(seeds.Many(40)); round < enough || hits == 0; round++ { // some rounds hit nothing
		x := &shortage{
			err:    []error{syscall.EMFILE, syscall.ENFILE}[rng.IntN(2)],
			suffix: []string{"", ".log", ".sst", ".sst"}[rng.IntN(4)],
		}
		fs := vfs.NewCrashableMem()
		known := newLedger()
		s := open(t, "db", small(errorfs.Wrap(fs, x)))
		enough := known.expect(400)
		load := known.start(t, s, "", rng.Uint64())
		x.left.Store(rng.Int64N(4)) // each failed opening takes a pause
		select {
		case <-enough:
		case <-time.After(5 * time.Minute): // the store hangs
			t.Fatalf("in vain: commits go on; health: %v", s.Health())
		}
		load.end()
		load.running.Wait()
		known.seal(func() {})
		known.readableIn(t, s)
		x.left.Store(0)
		if err := s.Close(); err != nil {
			t.Fatalf("%q: %v", x.suffix, err)
		}
		after := open(t, "db", small(crash(fs, rng)))
		known.holdsIn(t, after)
		closes(t, after)
		hits += x.hits.Load()
		if round == 1000 {
			t.Fatal("no opening was hit")
		}
	}
	t.Logf("%d openings were hit", hits)
}

// While the write-ahead log or a table waits for a file descriptor, the store's health
// says so, and the store refuses writes. As soon as there is a descriptor, it accepts
// writes again, without a restart.
func TestStarvingStoreHeals(t *testing.T) {
	for _, name := range []string{".log", ".sst"} {
		x := &shortage{err: syscall.EMFILE, suffix: name}
		s := open(t, "db", small(errorfs.Wrap(vfs.NewMem(), x)))
		x.left.Store(1 << 40)
		filled := make(chan struct{})
		go func() {
			defer close(filled)
			for seq := pim.Seq(0); s.Health() == nil && x.left.Load() > 0; seq++ { // until the memtable is full
				w := &store.Write{Log: "log", After: seq, Records: [][]byte{make([]byte, 8<<10)}}
				if store.Commit(context.Background(), s, []*store.Write{w}, store.Durable) != nil {
					return // it was refused because of the store's health
				}
			}
		}()
		until(t, "the store says that it starves", func() bool { return s.Health() != nil })
		err := s.Health()
		if pim.KindOf(err) != pim.KindUnavailable || !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), "max-connections") {
			t.Errorf("%s: health: %v", name, err)
		}
		w := &store.Write{Log: "other", Records: [][]byte{[]byte("x")}}
		if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durable); pim.KindOf(err) != pim.KindUnavailable || errors.Is(err, store.ErrUnknown) {
			t.Errorf("%s: a commit meanwhile: %v", name, err)
		}
		x.left.Store(0)
		<-filled
		until(t, "the store has healed", func() bool { return s.Health() == nil })
		appends(t, s, "other", 0, "x")
		closes(t, s)
	}
}

// A store that waits for a file descriptor can be closed. Acknowledged writes are there
// afterwards.
func TestStarvingStoreCloses(t *testing.T) {
	x := &shortage{err: syscall.ENFILE, suffix: ".log"}
	fs := vfs.NewCrashableMem()
	s := open(t, "db", small(errorfs.Wrap(fs, x)))
	appends(t, s, "kept", 0, "one")
	x.left.Store(1 << 40)
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		for seq := pim.Seq(0); ; seq++ {
			w := &store.Write{Log: "log", After: seq, Records: [][]byte{make([]byte, 8<<10)}}
			if store.Commit(context.Background(), s, []*store.Write{w}, store.Durable) != nil {
				return
			}
		}
	}()
	until(t, "the store starves", func() bool { return s.Health() != nil })
	if err := s.Close(); pim.KindOf(err) != pim.KindUnavailable {
		t.Errorf("close: %v", err)
	}
	<-filled
	after := open(t, "db", small(fs.CrashClone(vfs.CrashCloneCfg{})))
	defer closes(t, after)
	if last, _, err := store.LogEnd(context.Background(), after, "kept"); last != 1 || err != nil {
		t.Errorf("last %d, %v", last, err)
	}
}

// A store is opened while there are no file descriptors. Open fails soon, says why, and
// changes nothing.
func TestOpenWithoutFileDescriptors(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, "db", small(fs))
	appends(t, s, "log", 0, "one")
	closes(t, s)
	for _, name := range []string{"", ".log", ".sst"} {
		x := &shortage{err: syscall.EMFILE, suffix: name}
		x.left.Store(1 << 40)
		s, err := pebble.Open("db", small(errorfs.Wrap(fs, x)))
		if err == nil { // it needed no such file
			closes(t, s)
			continue
		}
		if pim.KindOf(err) != pim.KindUnavailable || !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%q: %v", name, err)
		}
	}
	s = open(t, "db", small(fs))
	defer closes(t, s)
	if last, _, err := store.LogEnd(context.Background(), s, "log"); last != 1 || err != nil {
		t.Errorf("last %d, %v", last, err)
	}
}

// until waits up to five minutes for ok to report true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: ", what)
		}
	}
}
