package conv_test

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// unanswered carries out a part of each write, and loses the answers, so that the writer does
// not know what took effect.
func unanswered(ctx context.Context, s store.Store, writes []*store.Write, d store.Durability, part func(store.Write) store.Write) error {
	for _, w := range writes {
		p := part(*w)
		if err := store.Commit(ctx, s, []*store.Write{&p}, d); err != nil {
			return err
		}
		w.Err = &pim.Error{Kind: pim.KindUnavailable, Text: "no answer", Err: store.ErrUnknown}
	}
	return writes[0].Err
}

// withCells returns w with only those of its cells that keep accepts.
func withCells(w store.Write, keep func(store.CellWrite) bool) store.Write {
	cells := w.Cells
	w.Cells = nil
	for _, c := range cells {
		if keep(c) {
			w.Cells = append(w.Cells, c)
		}
	}
	return w
}
