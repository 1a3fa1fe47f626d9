package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Erasures holds how far nothing is left of what users wrote in c: key the user, version the seq
// pim.Erasure.UpTo, no value. The cell of a user moves with each erase, and with one that was
// refused because there was nothing.
func Erasures(c pim.ConversationID) store.Partition { return store.Partition("erased/" + c) }

// ErasureCell returns the cell of Erasures that says x.
func ErasureCell(c pim.ConversationID, x pim.Erasure) store.CellWrite {
	return store.CellWrite{
		Partition: Erasures(c), Cell: store.Cell{Key: string(x.By), Version: uint64(x.UpTo)},
	}
}

// erasures returns the erasures of c that concern messages from the seq from on, as a user may
// know them who reads up to newest.
func (x *Inbox) erasures(ctx context.Context, c pim.ConversationID, from, newest pim.Seq) (all []pim.Erasure, err error) {
	for after := ""; ; {
		cells, err := x.store.List(ctx, Erasures(c), after, store.MaxBatch)
		if err != nil {
			return nil, err
		}
		for _, cell := range cells {
			if upTo := min(pim.Seq(cell.Version), newest); upTo >= from {
				all = append(all, pim.Erasure{By: pim.UserID(cell.Key), UpTo: upTo})
			}
			after = cell.Key
		}
		if len(cells) < store.MaxBatch {
			return all, nil
		}
	}
}
