package pebble_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/pebble"
)

func commitCells(t testing.TB, s store.Store, d store.Durability, cells ...store.CellWrite) {
	t.Helper()
	if err := store.Commit(context.Background(), s, []*store.Write{{Cells: cells}}, d); err != nil {
		t.Fatal(err)
	}
}

// passingCell returns a write of a cell of the partition "~p" with the given version, or
// its forget.
func passingCell(key string, version uint64, forget bool) store.CellWrite {
	return store.CellWrite{Partition: "~p", Cell: store.Cell{Key: key, Version: version}, Forget: forget}
}

// manyPass writes and forgets n cells of "~p", and writes one that stays.
func manyPass(t testing.TB, s store.Store, n int, version uint64) {
	t.Helper()
	for i := range n {
		commitCells(t, s, store.Relaxed, passingCell(fmt.Sprint("gone", i), version, false))
	}
	for i := range n {
		commitCells(t, s, store.Relaxed, passingCell(fmt.Sprint("gone", i), version, true))
	}
	commitCells(t, s, store.Relaxed, passingCell("stays", version, false))
}

// Many cells were forgotten, and nothing was compacted. From the second list on a list
// takes few steps, before a crash and after it. A compaction drops the keys that the
// moves left.
func TestListCostsWhatItReturns(t *testing.T) {
	for _, n := range []int{100, 5000} { // the move deletes one by one, and by a range
		fs := vfs.NewCrashableMem()
		s := open(t, "db", pebble.Options{FS: fs})
		for version := range uint64(3) {
			manyPass(t, s, n, version+1)
			for i, most := range []int{1 << 20, 4, 4} {
				if cells, steps := s.ListSteps("~p", 9); len(cells) != 1 || steps > most {
					t.Errorf("%d cells: list %d of round %d takes %d steps and returns %v", n, i, version, steps, cells)
				}
			}
		}
		commitCells(t, s, store.Durable, passingCell("last", 1, false))
		image := fs.CrashClone(vfs.CrashCloneCfg{})
		closes(t, s)
		s = open(t, "db", pebble.Options{FS: image})
		if cells, steps := s.ListSteps("~p", 9); len(cells) != 2 || steps > 4 {
			t.Errorf("%d cells: after the crash a list takes %d steps and returns %v", n, steps, cells)
		}
		if err := s.Compact(); err != nil {
			t.Fatal(err)
		}
		if keys := s.Keys('p'); keys != 2 {
			t.Errorf("%d cells: %d keys are left", n, keys)
		}
		closes(t, s)
	}
}

// A cell is written again and again. From the second list on a list takes few steps.
func TestListOfAHotCell(t *testing.T) {
	s := open(t, "db", pebble.Options{FS: vfs.NewMem()})
	defer closes(t, s)
	for v := range uint64(2000) {
		commitCells(t, s, store.Relaxed, passingCell("hot", v+1, false))
	}
	s.ListSteps("~p", 9)
	if cells, steps := s.ListSteps("~p", 9); len(cells) != 1 || cells[0].Version != 2000 || steps > 4 {
		t.Errorf("%d steps to %v", steps, cells)
	}
}

// Most cells of a partition live. It does not move, because that would cost more than it
// saves.
func TestManyLiveCellsStay(t *testing.T) {
	s := open(t, "db", pebble.Options{FS: vfs.NewMem()})
	defer closes(t, s)
	for i := range 5000 {
		commitCells(t, s, store.Relaxed, passingCell(fmt.Sprint(i), 1, false))
	}
	manyPass(t, s, 200, 1)
	for range 3 {
		s.ListSteps("~p", 9000)
	}
	if g := s.Generation("~p"); g != 0 {
		t.Errorf("it moved %d times", g)
	}
}

// Commits write and forget cells while the partitions move and the memory of generations
// is emptied. No cell is lost, and no forgotten cell comes back.
func TestMovesMeetCommits(t *testing.T) {
	s := open(t, "db", pebble.Options{FS: vfs.NewMem(), MemTableBytes: 256 << 10})
	defer closes(t, s)
	ctx := context.Background()
	partition := func(i int) store.Partition { return store.Partition(fmt.Sprint("~", i)) }
	const writers, partitions, rounds = 4, 3, 1000
	var writing, moving sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		moving.Go(func() {
			for {
				for i := range partitions {
					s.Move(partition(i))
					if _, err := s.List(ctx, partition(i), "", 3); err != nil {
						t.Error(err)
					}
				}
				s.ForgetGenerations()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range partitions { // a cell that no writer touches is always there
		commitCells(t, s, store.Relaxed, store.CellWrite{Partition: partition(i), Cell: store.Cell{Key: "a", Version: 1}})
		moving.Go(func() {
			for {
				_, ok, err := store.Lookup(ctx, s, partition(i), "a")
				cells, listErr := s.List(ctx, partition(i), "", 1000)
				if !ok || err != nil || listErr != nil || !slices.ContainsFunc(cells, func(c store.Cell) bool { return c.Key == "a" }) {
					t.Errorf("%s: found %v, %v; listed %v, %v", partition(i), ok, err, cells, listErr)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	movedOften := func() bool {
		for i := range partitions {
			if s.Generation(partition(i)) < 10 {
				return false
			}
		}
		return true
	}
	for w := range writers {
		writing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			versions, gone := map[[2]int]uint64{}, map[[2]int]uint64{}
			for n := 0; n < rounds || !movedOften(); n++ {
				at := [2]int{rng.IntN(partitions), rng.IntN(8)}
				p, key := partition(at[0]), fmt.Sprintf("%d.%d", w, at[1])
				c := store.CellWrite{Partition: p, Cell: store.Cell{Key: key}}
				if rng.IntN(3) == 0 {
					c.Version, c.Forget = versions[at], true
					gone[at] = versions[at]
				} else {
					versions[at]++
					c.Version = versions[at]
				}
				if err := store.Commit(ctx, s, []*store.Write{{Cells: []store.CellWrite{c}}}, store.Relaxed); err != nil {
					t.Error(err)
					return
				}
				got, ok, err := store.Lookup(ctx, s, p, key)
				if err != nil || ok != (versions[at] > gone[at]) || ok && got.Version != versions[at] {
					t.Errorf("%s %s is at %d, %v, %v; written %d, forgotten %d", p, key, got.Version, ok, err, versions[at], gone[at])
					return
				}
			}
			for i := range partitions {
				cells, err := s.List(ctx, partition(i), fmt.Sprint(w), 8)
				listed := map[string]uint64{}
				for _, c := range cells {
					listed[c.Key] = c.Version
				}
				for k := range 8 {
					at, key := [2]int{i, k}, fmt.Sprintf("%d.%d", w, k)
					want := versions[at]
					if gone[at] == want {
						want = 0
					}
					if listed[key] != want || err != nil {
						t.Errorf("%s %s is listed at %d, want %d, %v", partition(i), key, listed[key], want, err)
					}
				}
			}
		})
	}
	writing.Wait()
	close(done)
	moving.Wait()
}
