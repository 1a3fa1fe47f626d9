package storetest

import (
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// again closes the store and opens it again.
func (s *suite) again() {
	s.Helper()
	s.end()
	s.store, s.ended = s.reopen(), false
}

// opensAgain closes the store and opens it again, several times. Records, erasures, fences, fronts
// and cells are as they were, also those of relaxed writes. Appends go on.
func (s *suite) opensAgain() {
	if s.reopen == nil {
		s.Skip("the engine keeps nothing over a Close")
	}
	var want [][]byte
	fence := uint64(0)
	for round := range 4 {
		w := appendTo("log", pim.Seq(len(want)), numbered(len(want)+1, len(want)+300)...)
		w.Fence = fence
		w.Cells = []store.CellWrite{cell("p", "k", uint64(round+1), "v"), cell("~p", fmt.Sprint(round), 1, "passes")}
		want = append(want, w.Records...)
		s.commits(w)
		erased := erase("log", pim.Seq(len(want)), pim.Seq(round*300+7))
		erased.Fence = fence
		want[round*300+6] = erased.Erase[0].Rest
		s.commits(erased)
		front := pim.Seq(round*250 + 1)
		s.commits(trim("log", front-1))
		if round%2 == 0 {
			s.commits(raise("log"))
			fence = s.fence("log", pim.Seq(len(want)))
		}
		relaxed := &store.Write{Cells: []store.CellWrite{cell("p", "relaxed", uint64(round+1), "r")}}
		if err := store.Commit(s.ctx, s.store, []*store.Write{relaxed}, store.Relaxed); err != nil {
			s.Fatal(err)
		}
		s.again()
		s.begins("log", front, pim.Seq(len(want)), fence, want)
		s.holds("p", "k", uint64(round+1), "v")
		s.holds("p", "relaxed", uint64(round+1), "r")
		s.holds("~p", fmt.Sprint(round), 1, "passes")
	}
	last := pim.Seq(len(want))
	s.commits(trim("log", last))
	s.again()
	s.begins("log", last+1, last, fence, want)
	s.stale(appendTo("log", 0, "x"), last)
	w := appendTo("log", last, "and on")
	w.Fence = fence
	s.commits(w)
}
