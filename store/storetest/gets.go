package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// getMany looks many cells up in one call: cells of many partitions, cells that pass, that
// expire, that were forgotten, that are not there, and some of them twice.
func (s *suite) getMany() {
	var cells []store.CellWrite
	for i := range 120 {
		p, key := store.Partition(fmt.Sprint("p", i%7)), fmt.Sprint("k", i)
		expiring := cell(p, "e"+key, 2, key)
		expiring.Lifetime = time.Hour
		cells = append(cells, cell(p, key, uint64(i+1), key), expiring,
			cell("~"+p, key, 3, key), cell("~"+p, "f"+key, 1, key), forget("~"+p, "f"+key, 1))
	}
	s.cells(cells...)
	var gets, want []store.Get
	looksUp := func(c *store.CellWrite, there bool) {
		g := store.Get{Partition: c.Partition, Key: c.Key}
		gets = append(gets, g)
		if there {
			g.Cell = c.Cell
		}
		want = append(want, g)
	}
	for i := range cells {
		c := &cells[i]
		looksUp(c, !c.Forget && !strings.HasPrefix(c.Key, "f"))
		missing := cell(c.Partition, c.Key+"?", 1, "")
		looksUp(&missing, false)
		if i%3 == 0 {
			looksUp(c, !c.Forget && !strings.HasPrefix(c.Key, "f"))
		}
	}
	gets[0].Cell, gets[1].Cell, gets[0].Err = cells[1].Cell, cells[1].Cell, errors.New("of an earlier call")
	if err := s.store.Get(s.ctx, gets); err != nil {
		s.Fatal(err)
	}
	for i := range want {
		got, want := &gets[i], &want[i]
		if got.Partition != want.Partition || got.Key != want.Key || got.Err != nil || got.Cell.Key != want.Cell.Key ||
			got.Cell.Version != want.Cell.Version || string(got.Cell.Value) != string(want.Cell.Value) {
			s.Fatalf("get %d of %d: %+v, want %+v", i, len(gets), got, want)
		}
	}
	if err := s.store.Get(s.ctx, nil); err != nil {
		s.Errorf("no gets: %v", err)
	}
}

// getsFailAlone asks for cells under names that cannot be, among others.
func (s *suite) getsFailAlone() {
	s.cells(cell("p", "k", 1, "v"), cell("~p", "k", 2, "w"))
	gets := []store.Get{
		{Partition: "p", Key: "k"},
		{Key: "k"},
		{Partition: "~p", Key: "k"},
		{Partition: store.Partition(strings.Repeat("x", store.MaxNameBytes+1)), Key: "k"},
		{Partition: "p", Key: "k"},
	}
	if err := s.store.Get(s.ctx, gets); err != gets[1].Err || pim.KindOf(err) != pim.KindInvalid {
		s.Errorf("gets: %v, want the first error, %v", err, gets[1].Err)
	}
	for i, version := range []uint64{1, 0, 2, 0, 1} {
		g := &gets[i]
		if g.Cell.Version != version || (g.Err == nil) != (version > 0) {
			s.Errorf("get %d: version %d, %v; want version %d", i, g.Cell.Version, g.Err, version)
		}
	}
	s.isInvalid("get", gets[3].Err)
}

// getsAsOne checks that calls of Get that cannot be carried out fail for each cell.
func (s *suite) getsAsOne() {
	s.cells(cell("p", "k", 1, "v"))
	fails := func(ctx context.Context, what string, n int, want pim.Kind) {
		s.Helper()
		gets := make([]store.Get, n)
		for i := range gets {
			gets[i] = store.Get{Partition: "p", Key: "k"}
		}
		err := s.store.Get(ctx, gets)
		if err == nil || want != 0 && pim.KindOf(err) != want {
			s.Errorf("%s: %v, want kind %v", what, err, want)
		}
		for i := range gets {
			if gets[i].Err == nil || gets[i].Cell.Version != 0 || want != 0 && pim.KindOf(gets[i].Err) != want {
				s.Fatalf("%s, get %d: %+v", what, i, gets[i])
			}
		}
	}
	fails(s.ctx, "too many gets", store.MaxBatch+1, pim.KindInvalid)
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	fails(ended, "gets with a cancelled context", 3, 0)
	gets := make([]store.Get, store.MaxBatch)
	for i := range gets {
		gets[i] = store.Get{Partition: "p", Key: "k"}
	}
	if err := s.store.Get(s.ctx, gets); err != nil || gets[len(gets)-1].Cell.Version != 1 {
		s.Errorf("as many gets as are allowed: %+v, %v", gets[len(gets)-1], err)
	}
	s.end()
	fails(s.ctx, "gets after close", 3, pim.KindUnavailable)
}
