package retain

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// stateCells holds what a Sweeper must know after a restart: under placeKey the place, whose
// version grows with each pass and page; under clockKey, as the version, the newest time that a
// Sweeper has gone by.
const (
	stateCells = store.Partition("sweeper")
	placeKey   = "place"
	clockKey   = "clock"
)

// place is where a pass goes on: in a partition of the index of logs, behind a conversation.
type place struct {
	partition int
	after     string
	version   uint64
}

func (p place) cell() store.Cell {
	return store.Cell{Key: placeKey, Version: p.version, Value: append([]byte{byte(p.partition)}, p.after...)}
}

// parsePlace reads what cell wrote. From anything else a pass begins at the start.
func parsePlace(c store.Cell) place {
	if len(c.Value) == 0 || int(c.Value[0]) >= inbox.LogPartitions {
		return place{version: c.Version}
	}
	return place{int(c.Value[0]), string(c.Value[1:]), c.Version}
}

// slowClock is the time that a Sweeper goes by. If the wall clock is set forward by mistake,
// entries that are not old would be removed for good. So this time goes at most twice as fast as
// a clock that nobody sets, and is never ahead of the wall clock. After a node was off, or its
// clock was behind, it takes as long to come to the wall clock's time.
type slowClock struct {
	newest pim.Millis    // that a Sweeper has gone by
	read   time.Duration // by the clock that nobody sets: when now was called last
}

func (k *slowClock) now(wall pim.Millis, mono time.Duration) pim.Millis {
	now := min(wall, k.newest+2*pim.Millis((mono-k.read).Milliseconds()))
	k.newest, k.read = max(k.newest, now), mono
	return now
}

// load reads place and clock from the store, once.
func (s *Sweeper) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	gets := []store.Get{{Partition: stateCells, Key: placeKey}, {Partition: stateCells, Key: clockKey}}
	if err := s.Store.Get(ctx, gets); err != nil {
		return err
	}
	s.place = parsePlace(gets[0].Cell)
	s.clock = slowClock{newest: pim.Millis(gets[1].Cell.Version), read: s.started}
	if s.clock.newest == 0 { // the first pass over this store
		s.clock.newest = pim.MillisOf(s.Now())
	}
	s.loaded = true
	return nil
}

// goTo moves the place, and stores it with the clock.
func (s *Sweeper) goTo(ctx context.Context, partition int, after string) error {
	s.place = place{partition, after, s.place.version + 1}
	return store.Commit(ctx, s.Store, []*store.Write{{Cells: []store.CellWrite{
		{Partition: stateCells, Cell: s.place.cell()},
		{Partition: stateCells, Cell: store.Cell{Key: clockKey, Version: uint64(s.clock.newest)}},
	}}}, store.Relaxed)
}
