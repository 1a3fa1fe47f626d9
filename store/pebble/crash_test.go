package pebble_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim/store/pebble"
)

// TestCrash cuts the power at random moments under concurrent commits. Each time
// the store goes on from what a disk may hold then, and must have every record
// that was acknowledged, or shown to a reader, and every cell of each append.
func TestCrash(t *testing.T) {
	seed := seeded(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	known := newLedger()
	for round := range rounds(400) {
		prefix := fmt.Sprintf("%d/", round/10) // logs go on for ten crashes
		if round%10 == 5 {
			known.forget(prefix)
		}
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
	seed := seeded(t)
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
	for range rounds(80) {
		var next *vfs.MemFS
		n := rng.IntN(60)
		s, err := pebble.Open("db", small(counting(fs, func(i int) {
			if i == n {
				next = crash(fs, rng)
			}
		})))
		if err != nil {
			t.Fatal(err)
		}
		known.holdsIn(t, s)
		closes(t, s)
		if next != nil {
			fs = next
		}
	}
	s = open(t, "db", small(fs))
	known.holdsIn(t, s)
	closes(t, s)
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
