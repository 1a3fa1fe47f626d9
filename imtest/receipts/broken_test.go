package receipts

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/imtest/seeds"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/store/storetest"
)

// errGone is the end of an append that takes no effect, and that nobody tries again.
var errGone = errors.New("gone")

// altered is a store that changes writes on their way.
type altered struct {
	store.Store
	alter func(*store.Write) error
}

func (s *altered) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	storetest.Begin(ctx, s.commit, writes, d, done)
}

func (s *altered) commit(ctx context.Context, writes []*store.Write, d store.Durability) error {
	for _, w := range writes {
		some := *w
		gone := s.alter(&some)
		if err := store.Commit(ctx, s.Store, []*store.Write{&some}, d); err != nil {
			return err
		}
		if w.Err = some.Err; gone != nil {
			w.Err = gone
		}
	}
	return nil
}

// only leaves in w the cells of partitions that begin with prefix, and nothing else.
func only(w *store.Write, prefix string) {
	cells := slices.DeleteFunc(slices.Clone(w.Cells), func(c store.CellWrite) bool {
		return !strings.HasPrefix(string(c.Partition), prefix)
	})
	*w = store.Write{Cells: cells}
}

// isRead reports whether w appends a read command.
func isRead(w *store.Write) bool {
	return strings.HasPrefix(string(w.Log), "u:") && slices.ContainsFunc(w.Cells, func(c store.CellWrite) bool {
		return strings.HasPrefix(string(c.Partition), "reads/")
	})
}

// The model notices servers that are wrong in one way each, and says nothing of the sound ones
// that look like them.
func TestBrokenServers(t *testing.T) {
	gone := &pim.Error{Kind: pim.KindInvalid, Text: "gone", Err: errGone}
	for name, c := range map[string]struct {
		caught bool
		alter  func(*rand.Rand, *store.Write) error
	}{
		"a read that is lost": {false, func(rng *rand.Rand, w *store.Write) error {
			if !isRead(w) || rng.IntN(3) > 0 {
				return nil
			}
			only(w, "no partition")
			return gone
		}},
		"a receipt before the read is durable": {true, func(rng *rand.Rand, w *store.Write) error {
			if !isRead(w) || rng.IntN(3) > 0 {
				return nil
			}
			only(w, "reads/")
			return gone
		}},
		"no receipt for a read": {true, func(_ *rand.Rand, w *store.Write) error {
			if isRead(w) {
				w.Cells = slices.DeleteFunc(slices.Clone(w.Cells), func(c store.CellWrite) bool { return strings.HasPrefix(string(c.Partition), "reads/") })
			}
			return nil
		}},
		"no-receipts that does not reach the groups": {true, func(_ *rand.Rand, w *store.Write) error {
			if len(w.Cells) > 0 && w.Cells[0].Partition == inbox.Hidden && w.Cells[0].Value[0] == 1 {
				only(w, "no partition")
			}
			return nil
		}},
		"the first no-receipts for ever": {true, func(_ *rand.Rand, w *store.Write) error {
			w.Cells = slices.DeleteFunc(slices.Clone(w.Cells), func(c store.CellWrite) bool {
				return c.Partition == inbox.Hidden && c.Value[0] == 0
			})
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 400
			first := seeds.First(t)
			caught := false
			for seed := first; seed < first+n && !caught; seed++ {
				rng := rand.New(rand.NewPCG(seed, 1))
				s := &altered{storetest.NewMemory(), func(w *store.Write) error { return c.alter(rng, w) }}
				if err := run(t.Context(), s, seed); err != nil {
					if caught = true; !c.caught {
						t.Fatalf("PIM_SEED=%d: %v", seed, err)
					}
				}
			}
			if caught != c.caught {
				t.Errorf("caught: %v in %d schedules", caught, n)
			}
		})
	}
}
