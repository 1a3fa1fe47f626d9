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
// Sweeper has gone by; under markedKey, with version 1, that inbox.Retaining is complete.
const (
	stateCells = store.Partition("sweeper")
	placeKey   = "place"
	clockKey   = "clock"
	markedKey  = "marked"
)

// walk is a partition that a pass looks through. There are two for each number n below
// inbox.LogPartitions: 2n is inbox.Retained(n), 2n+1 is inbox.Logs(n).
type walk int

const walks walk = 2 * inbox.LogPartitions

func (w walk) number() int { return int(w) / 2 }

// own reports whether w is of conversations that have a time of their own.
func (w walk) own() bool { return w%2 == 0 }

func (w walk) partition() store.Partition {
	if w.own() {
		return inbox.Retained(w.number())
	}
	return inbox.Logs(w.number())
}

// place is where a pass goes on: in a walk, behind a conversation.
type place struct {
	walk    walk
	after   string
	version uint64
}

func (p place) cell() store.Cell {
	return store.Cell{Key: placeKey, Version: p.version, Value: append([]byte{byte(p.walk)}, p.after...)}
}

// parsePlace reads what cell wrote. From anything else a pass begins at the start. What an earlier
// version wrote is another place, and the next pass is complete.
func parsePlace(c store.Cell) place {
	if len(c.Value) == 0 || walk(c.Value[0]) >= walks {
		return place{version: c.Version}
	}
	return place{walk(c.Value[0]), string(c.Value[1:]), c.Version}
}

// load reads place and clock from the store, once.
func (s *Sweeper) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	gets := []store.Get{{Partition: stateCells, Key: placeKey}, {Partition: stateCells, Key: clockKey}, {Partition: stateCells, Key: markedKey}}
	if err := s.Store.Get(ctx, gets); err != nil {
		return err
	}
	if gets[2].Cell.Version == 0 {
		if err := s.mark(ctx); err != nil {
			return err
		}
	}
	clock := slowClock{newest: pim.Millis(gets[1].Cell.Version), read: s.startedMono}
	if clock.newest == 0 { // the first pass over this store
		var err error
		if clock.newest, err = s.firstTime(ctx); err != nil {
			return err
		}
	}
	s.place, s.clock, s.loaded = parsePlace(gets[0].Cell), clock, true
	return nil
}

// mark completes inbox.Retaining. An earlier version wrote the cells of conversations without it.
func (s *Sweeper) mark(ctx context.Context) error {
	marked := &store.Write{Cells: []store.CellWrite{{Partition: stateCells, Cell: store.Cell{Key: markedKey, Version: 1}}}}
	for n := range inbox.LogPartitions {
		cells, err := s.Store.List(ctx, inbox.Retained(n), "", 1)
		if err != nil {
			return err
		}
		if len(cells) > 0 {
			marked.Cells = append(marked.Cells, inbox.RetainingCell(n))
		}
	}
	return store.Commit(ctx, s.Store, []*store.Write{marked}, store.Durable)
}

// goTo moves the place, and stores it with the clock.
func (s *Sweeper) goTo(ctx context.Context, w walk, after string) error {
	s.place = place{w, after, s.place.version + 1}
	return store.Commit(ctx, s.Store, []*store.Write{{Cells: []store.CellWrite{
		{Partition: stateCells, Cell: s.place.cell()},
		{Partition: stateCells, Cell: store.Cell{Key: clockKey, Version: uint64(s.clock.newest)}},
	}}}, store.Relaxed)
}

// skip moves the place over walks of which nothing can come: through the conversations with a time
// of their own where there are none, and through all if the server keeps entries for ever. It does
// not store the place.
func (s *Sweeper) skip(retaining map[string]bool) {
	for p := &s.place; p.walk < walks; p.walk, p.after = p.walk+1, "" {
		if p.walk.own() && retaining[inbox.RetainingKey(p.walk.number())] || !p.walk.own() && s.Age != 0 {
			return
		}
	}
}

// retaining returns the keys of inbox.Retaining.
func (s *Sweeper) retaining(ctx context.Context) (map[string]bool, error) {
	cells, err := s.Store.List(ctx, inbox.Retaining, "", inbox.LogPartitions)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool, len(cells))
	for _, c := range cells {
		keys[c.Key] = true
	}
	return keys, nil
}

func millis(d time.Duration) pim.Millis { return pim.Millis(d.Milliseconds()) }
