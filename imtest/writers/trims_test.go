package writers

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// trimmed is what retention may have removed.
type trimmed struct {
	entries map[pim.ConversationID][]pim.Entry // from seq 1 on, as they were before
	fronts  map[pim.ConversationID][]pim.Seq   // that were meant
}

// trims trims logs through both writers, while users write, erase and mention each other and writers
// die. All that is trimmed has been answered, and is not sent again: what may be sent again is too
// young to be trimmed.
func (w *world) trims() error {
	w.gone = trimmed{make(map[pim.ConversationID][]pim.Entry), make(map[pim.ConversationID][]pim.Seq)}
	var long []pim.ConversationID
	for _, c := range w.plan.conversations() {
		l, err := readLog(w.gate.store, c, nil)
		if err != nil {
			return err
		}
		if _, own := c.OwnUser(); !own && len(l.entries) > 0 {
			w.gone.entries[c], long = l.entries, append(long, c)
		}
	}
	if w.young { // heal ends that
		w.setFaulty(0.1)
	}
	first := len(w.book.requests)
	for left := 15; left > 0 && len(long) > 0; {
		w.look()
		switch {
		case w.rng.IntN(300) == 0:
			w.restart(w.writers[w.rng.IntN(2)])
		case w.rng.IntN(25) == 0:
			w.trim(long[w.rng.IntN(len(long))])
		case len(w.calls) == 0 || len(w.book.waiting()) < 12 && w.rng.IntN(6) == 0:
			w.submit(w.plan.another())
			left--
		default:
			w.goOn()
		}
	}
	if err := w.heal(); err != nil {
		return err
	}
	for _, r := range w.book.requests[first:] {
		if err := w.settle(r); err != nil {
			return err
		}
	}
	return nil
}

// trim begins to trim c, up to any of the entries that were answered.
func (w *world) trim(c pim.ConversationID) {
	if l, err := readLog(w.gate.store, c, w.gone.entries[c]); err == nil && w.young {
		w.gone.entries[c] = l.entries
	}
	x, upTo := w.writers[w.rng.IntN(2)], 1+pim.Seq(w.rng.IntN(len(w.gone.entries[c])))
	w.tell("%s trims %s up to seq %d", x.line.name, c, upTo)
	w.gone.fronts[c] = append(w.gone.fronts[c], upTo+1)
	go func() { _ = x.Trim(context.Background(), c, upTo) }() // it may fail, and what it has done is right nevertheless
}

// greedy trims one entry too many.
type greedy struct{ store.Store }

func (s greedy) Begin(ctx context.Context, writes []*store.Write, d store.Durability, done func(*store.Write)) {
	for _, w := range writes {
		more := *w
		if w.Trim > 0 {
			more.Trim++
		}
		s.Store.Begin(ctx, []*store.Write{&more}, d, func(*store.Write) {
			w.Err = more.Err
			done(w)
		})
	}
}

// frontsOf returns the fronts that c may have had, ascending, of which the last is front.
func (t *trimmed) frontsOf(c pim.ConversationID, front pim.Seq) []pim.Seq {
	fronts := slices.DeleteFunc(slices.Clone(t.fronts[c]), func(f pim.Seq) bool { return f >= front })
	if slices.Sort(fronts); front > 1 {
		fronts = append(fronts, front)
	}
	return fronts
}
