package pebble_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/store"
)

// TestCrash cuts the power at random moments under concurrent commits. Each time the
// store opens again on what a disk may hold then. It must have every record that was
// acknowledged or shown to a reader, and every cell of each append.
func TestCrash(t *testing.T) {
	seed := seeds.First(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	known := newLedger()
	for round := range rounds(seeds.Many(400)) {
		if round%20 == 0 { // the disk stays small, which keeps the test quick
			fs, known = vfs.NewCrashableMem(), newLedger()
		}
		prefix := fmt.Sprintf("%d/", round/5) // logs go on for five crashes
		s := open(t, "db", small(fs))
		known.holdsIn(t, s)
		enough := known.expect(1 + rng.IntN(60))
		load := known.start(t, s, prefix, rng.Uint64())
		<-enough
		known.seal(func() { fs = crash(fs, rng) })
		load.end()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	s := open(t, "db", small(fs))
	known.holdsIn(t, s)
	closes(t, s)
}

// TestCrashWhileOpening cuts the power in the middle of recoveries.
func TestCrashWhileOpening(t *testing.T) {
	seed := seeds.First(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	known := newLedger()
	s := open(t, "db", small(fs))
	enough := known.expect(200)
	load := known.start(t, s, "", rng.Uint64())
	<-enough
	known.seal(func() { fs = crash(fs, rng) })
	load.end()
	closes(t, s)
	for range rounds(seeds.Many(80)) {
		var next atomic.Pointer[vfs.MemFS]
		s := open(t, "db", small(before(fs, rng.Int64N(60), func() { next.Store(crash(fs, rng)) })))
		known.holdsIn(t, s)
		closes(t, s)
		if crashed := next.Load(); crashed != nil {
			fs = crashed
		}
	}
	s = open(t, "db", small(fs))
	known.holdsIn(t, s)
	closes(t, s)
}

// TestCrashLosesTheNewestRelaxed cuts the power while durable writes are under way and relaxed
// ones follow each other. A crash that loses a relaxed write loses all later ones, too.
func TestCrashLosesTheNewestRelaxed(t *testing.T) {
	seed := seeds.First(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	const keys = 6
	at := func(n uint64) (store.Partition, string) {
		return [...]store.Partition{"p", "~p"}[n%2], fmt.Sprint("k", n%keys)
	}
	for range rounds(seeds.Many(80)) {
		fs, known := vfs.NewCrashableMem(), newLedger()
		s := open(t, "db", small(fs))
		enough := known.expect(1 + rng.IntN(60))
		load := known.start(t, s, "", rng.Uint64())
		load.running.Go(func() {
			for n := uint64(1); !load.stopped(); n++ {
				p, key := at(n)
				w := &store.Write{Cells: []store.CellWrite{{Partition: p, Cell: store.Cell{Key: key, Version: n}}}}
				if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Relaxed); err != nil {
					t.Error(err)
					return
				}
				if n%50 == 0 {
					s.Move("~p")
				}
			}
		})
		<-enough
		known.seal(func() { fs = crash(fs, rng) })
		load.end()
		closes(t, s)

		s = open(t, "db", small(fs))
		var newest uint64
		var versions [keys]uint64
		for i := range versions {
			p, key := at(uint64(i))
			versions[i] = get(t, s, p, key).Version
			newest = max(newest, versions[i])
		}
		for n := newest; n > 0 && n+keys > newest; n-- {
			if got := versions[n%keys]; got != n {
				t.Errorf("write %d was lost, write %d was not", n, newest)
			}
		}
		closes(t, s)
	}
}

// TestCloseKeepsRelaxed checks that Close makes relaxed writes durable.
func TestCloseKeepsRelaxed(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, "db", small(fs))
	commitCell(t, s, "p", "k", 1)
	closes(t, s)
	s = open(t, "db", small(fs.CrashClone(vfs.CrashCloneCfg{})))
	defer closes(t, s)
	if c := get(t, s, "p", "k"); c.Version != 1 {
		t.Fatalf("the cell has version %d", c.Version)
	}
}

// TestMarkerAfterManifest cuts the power just after Pebble has made a new manifest the
// current one, and before it has synced the directory. The marker may then be lost, but
// if it is there, so is the manifest that it names.
func TestMarkerAfterManifest(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	fs := vfs.NewCrashableMem()
	s := open(t, "db", small(fs))
	appends(t, s, "log", 0, "one")
	closes(t, s)
	var crashed []*vfs.MemFS
	s = open(t, "db", small(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemove && strings.Contains(op.Path, "marker.manifest") {
			for range 20 {
				crashed = append(crashed, crash(fs, rng))
			}
		}
		return nil
	}))))
	closes(t, s)
	if len(crashed) == 0 {
		t.Fatal("no manifest was made the current one")
	}
	for _, fs := range crashed {
		s := open(t, "db", small(fs))
		if last, _, err := store.LogEnd(context.Background(), s, "log"); err != nil || last != 1 {
			t.Errorf("last: %d, %v", last, err)
		}
		closes(t, s)
	}
}

// What was read before a barrier survives a crash at any later moment, whatever was being written
// meanwhile.
func TestCrashAfterABarrier(t *testing.T) {
	rng := rand.New(rand.NewPCG(seeds.First(t), 0))
	for range rounds(seeds.Many(80)) {
		fs := vfs.NewCrashableMem()
		s := open(t, "db", small(fs))
		var mu sync.Mutex
		sealed, passed := false, map[string]uint64{}
		enough, left := make(chan struct{}), 1+rng.IntN(200)
		var running sync.WaitGroup
		var over atomic.Bool
		for i := range 4 {
			key := fmt.Sprint("k", i/2)
			running.Go(func() {
				for n := uint64(1); !over.Load(); n++ {
					w := &store.Write{Cells: []store.CellWrite{{Partition: "p", Cell: store.Cell{Key: key, Version: n}}}}
					if err := store.Commit(context.Background(), s, []*store.Write{w}, store.Durability(i%2 == 0)); err != nil {
						t.Error(err)
						return
					}
				}
			})
			running.Go(func() {
				for !over.Load() {
					version := get(t, s, "p", key).Version
					if err := s.Barrier(context.Background()); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if !sealed {
						passed[key] = max(passed[key], version)
						if left--; left == 0 {
							close(enough)
						}
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		mu.Lock()
		sealed, fs = true, crash(fs, rng)
		mu.Unlock()
		over.Store(true)
		running.Wait()
		closes(t, s)
		s = open(t, "db", small(fs))
		for key, version := range passed {
			if got := get(t, s, "p", key).Version; got < version {
				t.Errorf("version %d of %s, which was read before a barrier, is lost: it has %d", version, key, got)
			}
		}
		closes(t, s)
	}
}
