package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pim-im/pim/store"
	"pgregory.net/rapid"
)

// asPassing runs a test for ordinary partitions on passing ones. As long as nothing is
// forgotten, both kinds behave alike.
func asPassing(test func(*suite)) func(*suite) {
	return func(s *suite) {
		s.store = passing{s.store}
		test(s)
	}
}

// passing adds PassingPrefix to the names of all partitions.
type passing struct{ store.Store }

func (p passing) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	prefixed := make([]*store.Write, len(writes))
	for i, w := range writes {
		c := *w
		c.Owner, c.Cells = w, slices.Clone(w.Cells)
		for j := range c.Cells {
			c.Cells[j].Partition = store.PassingPrefix + c.Cells[j].Partition
		}
		prefixed[i] = &c
	}
	p.Store.Begin(ctx, prefixed, d, func(c *store.Write) {
		w := c.Owner.(*store.Write)
		w.Err = c.Err
		done(w)
	})
}

func (p passing) Get(ctx context.Context, gets []store.Get) error {
	prefixed := slices.Clone(gets)
	for i := range prefixed {
		prefixed[i].Partition = store.PassingPrefix + gets[i].Partition
	}
	err := p.Store.Get(ctx, prefixed)
	for i := range gets {
		gets[i].Cell, gets[i].Err = prefixed[i].Cell, prefixed[i].Err
	}
	return err
}

func (p passing) List(ctx context.Context, name store.Partition, after string, limit int) ([]store.Cell, error) {
	return p.Store.List(ctx, store.PassingPrefix+name, after, limit)
}

func forget(p store.Partition, key string, version uint64) store.CellWrite {
	return store.CellWrite{Partition: p, Cell: store.Cell{Key: key, Version: version}, Forget: true}
}

func (s *suite) forgets() {
	s.cells(forget("~p", "never written", 9))
	s.holds("~p", "never written", 0, "")
	s.lists("~p", "", 10)
	s.cells(cell("~p", "k", 5, "five"))
	s.cells(forget("~p", "k", 4))
	s.holds("~p", "k", 5, "five") // its version is higher than the forgotten one
	s.cells(forget("~p", "k", 5))
	s.holds("~p", "k", 0, "")
	s.lists("~p", "", 10)
	s.cells(cell("~p", "k", 6, "six"))
	s.holds("~p", "k", 6, "six")
	s.cells(cell("~p", "k", 8, "eight"), forget("~p", "k", 7), forget("~p", "k", 0))
	s.holds("~p", "k", 8, "eight")
	w := appendTo("log", 0, "x")
	w.Cells = []store.CellWrite{forget("~p", "k", 9), cell("~p", "l", 1, "")}
	s.commits(w)
	s.lists("~p", "", 10, "l=1")
	w = appendTo("log", 7, "x")
	w.Cells = []store.CellWrite{forget("~p", "l", 1)}
	s.conflicts(w, 1)
	s.lists("~p", "", 10, "l=1")
}

// forgetsForGood forgets cells of a partition that is not passing.
func (s *suite) forgetsForGood() {
	gone := func(key string) store.CellWrite { return forget("p", key, store.MaxVersion) }
	s.cells(gone("never written"))
	s.lists("p", "", 10)
	for _, key := range []string{"j", "k", "l", "m"} {
		s.cells(cell("p", key, 4, "four"))
		s.cells(cell("p", key, 5, "five"))
	}
	s.cells(cell("p", "m", store.MaxVersion, "the greatest version"), cell("q", "k", 1, "another"), cell("p", "kk", 1, "another"))
	s.cells(gone("k"), gone("m"))
	s.cells(gone("k")) // it may be repeated
	s.holds("p", "k", 0, "")
	s.holds("p", "m", 0, "")
	s.holds("q", "k", 1, "another")
	s.lists("p", "", 10, "j=5", "kk=1", "l=5")
	w := appendTo("log", 7, "x")
	w.Cells = []store.CellWrite{gone("l")}
	s.conflicts(w, 0)
	s.holds("p", "l", 5, "five")
	s.commits(appendTo("log", 0, "x"), &store.Write{Cells: []store.CellWrite{gone("l")}})
	s.commits(&store.Write{Log: "log", Trim: 1, Cells: []store.CellWrite{gone("j")}})
	s.lists("p", "", 10, "kk=1")
	if s.reopen == nil {
		return
	}
	s.again()
	s.holds("p", "k", 0, "")
	s.lists("p", "", 10, "kk=1")
}

// forgetsOlder forgets cells of a partition that is not passing up to a version.
func (s *suite) forgetsOlder() {
	s.cells(forget("p", "never written", 9))
	for _, key := range []string{"k", "l", "m"} {
		s.cells(cell("p", key, 5, "five"))
		s.cells(cell("p", key, 3, "three"))
	}
	s.cells(forget("p", "k", 4), forget("p", "l", 5), forget("p", "m", 6))
	s.lists("p", "", 10, "k=5")
	s.holds("p", "k", 5, "five")
	s.holds("p", "l", 0, "")
	s.cells(cell("p", "l", 6, "six"), cell("p", "m", 7, "seven")) // newer than what was forgotten
	s.lists("p", "", 10, "k=5", "l=6", "m=7")
	s.cells(cell("p", "k", 9, "nine"), forget("p", "k", 8), forget("p", "l", 6)) // in one write, in whatever order
	s.cells(forget("p", "m", 7), cell("p", "m", 8, "eight"))
	s.lists("p", "", 10, "k=9", "m=8")
	w := appendTo("log", 7, "x")
	w.Cells = []store.CellWrite{forget("p", "k", 9)}
	s.conflicts(w, 0)
	s.lists("p", "", 10, "k=9", "m=8")
	if s.reopen == nil {
		return
	}
	s.again()
	s.lists("p", "", 10, "k=9", "m=8")
	s.cells(forget("p", "k", 9))
	s.lists("p", "", 10, "m=8")
}

// forgetsRace forgets what a cell of a partition that is not passing holds while the next version is written: the
// next version is never lost. In each round both are under way at once, for several cells.
func (s *suite) forgetsRace() {
	const keys, rounds = 8, 60
	var running sync.WaitGroup
	for k := range keys {
		running.Go(func() {
			name := fmt.Sprint("k", k)
			for v := uint64(1); v <= rounds; v++ {
				var both sync.WaitGroup
				for i, c := range []store.CellWrite{cell("p", name, v+1, "v"), forget("p", name, v)} {
					d := store.Relaxed
					if (v+uint64(i))%2 == 0 { // engines carry relaxed and durable writes out beside each other
						d = store.Durable
					}
					both.Go(func() {
						if err := store.Commit(s.ctx, s.store, []*store.Write{{Cells: []store.CellWrite{c}}}, d); err != nil {
							s.Errorf("write: %v", err)
						}
					})
				}
				both.Wait()
				if got, ok, err := store.Lookup(s.ctx, s.store, "p", name); err != nil || !ok || got.Version != v+1 {
					s.Errorf("%s holds version %d, want %d: %v", name, got.Version, v+1, err)
				}
			}
		})
	}
	running.Wait()
}

// forgetsCommute writes and forgets the same cells in one commit, in a random order and
// with repeats. The remaining cells are those that the contract's rule gives. Where
// it uses several commits, the forgets come last, because an engine need not remember a
// forgotten version until a later write.
func (s *suite) forgetsCommute() {
	round := 0
	rapid.Check(s.TB, func(t *rapid.T) {
		s := &suite{TB: t, ctx: s.ctx, store: s.store}
		round++
		key, version := rapid.SampledFrom([]string{"k", "l", "m"}), rapid.Uint64Range(1, 4)
		writes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) store.CellWrite {
			return cell("", key.Draw(t, "key"), version.Draw(t, "version"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "value"))
		}), 1, 8).Draw(t, "writes")
		forgets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) store.CellWrite {
			return forget("", key.Draw(t, "key"), version.Draw(t, "version"))
		}), 1, 5).Draw(t, "forgets")
		want := map[string]store.Cell{}
		for _, w := range writes {
			if old := want[w.Key]; w.Version > old.Version || w.Version == old.Version && string(w.Value) > string(old.Value) {
				want[w.Key] = w.Cell
			}
		}
		for _, w := range forgets {
			if want[w.Key].Version <= w.Version {
				delete(want, w.Key)
			}
		}
		atOnce := rapid.Permutation(slices.Concat(writes, forgets, writes, forgets)).Draw(t, "order")
		later := rapid.Permutation(slices.Concat(forgets, forgets)).Draw(t, "order of the forgets")
		for i, commits := range [][][]store.CellWrite{{atOnce}, {writes, later}, {writes, forgets, later}} {
			p := store.Partition(fmt.Sprintf("~%d in order %d", round, i))
			for _, cells := range commits {
				cells = slices.Clone(cells)
				for j := range cells {
					cells[j].Partition = p
				}
				s.cells(cells...)
			}
			listed := 0
			for _, k := range []string{"k", "l", "m"} {
				s.holds(p, k, want[k].Version, string(want[k].Value))
				if want[k].Version > 0 {
					listed++
				}
			}
			cells, err := s.store.List(s.ctx, p, "", 10)
			if err != nil || len(cells) != listed {
				s.Fatalf("list: %v, %v; want %d cells", cells, err, listed)
			}
		}
	})
}

// listsPassForgotten lists pages of a partition in which very many cells were forgotten,
// and of one in which a cell was written very often.
func (s *suite) listsPassForgotten() {
	const n = 3000
	name := func(i int) string { return fmt.Sprintf("%04d", i) }
	live := func(i int) bool { return i%500 == 7 }
	var want []string
	for v := uint64(1); v <= 3; v++ { // later rounds write the forgotten cells again
		want = nil
		var written, gone []store.CellWrite
		for i := range n {
			written = append(written, cell("~p", name(i), v, "v"))
			if live(i) {
				want = append(want, fmt.Sprintf("%s=%d", name(i), v))
			} else {
				gone = append(gone, forget("~p", name(i), v))
			}
		}
		s.cells(written...)
		s.cells(gone...)
		s.lists("~p", "", n, want...)
		for i := range want {
			s.lists("~p", "", i+1, want[:i+1]...)
			s.lists("~p", want[i][:4], 2, want[i+1:min(i+3, len(want))]...)
		}
	}
	for v := range uint64(300) {
		s.cells(cell("~hot", "k", v+1, "v"))
	}
	for range 3 {
		s.lists("~hot", "", 9, "k=300")
		s.holds("~hot", "k", 300, "v")
	}
	s.lists("~p", "", 3, want[:3]...)
	s.lists("~", "", 3)
}

func (s *suite) badForgets() {
	write := func(c store.CellWrite) *store.Write { return &store.Write{Cells: []store.CellWrite{c}} }
	c := forget("p", "k", store.MaxVersion)
	c.Lifetime = time.Hour
	s.invalid("a forget with a lifetime", write(c), store.Durable)
	c = forget("~p", "k", 1)
	c.Value = []byte("v")
	s.invalid("a forget with a value", write(c), store.Durable)
	c = cell("~p", "k", 1, "v")
	c.Lifetime = time.Hour
	s.invalid("a lifetime in a passing partition", write(c), store.Durable)
}
