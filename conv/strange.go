package conv

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// The times of the IDs in a stretch of the index are close to those of its entries, so
// that whoever makes IDs cannot make a look-up long: it reads what was written within
// some ten seconds. An ID of another time is strange. Its entry is written with a cell
// for it: those that waited for a network, and of a device whose clock is wrong.

const (
	strangePast   = 10_000 // ms before its entry's server time that an ID's may be
	strangeFuture = 1_000  // ms after
)

// isStrange reports whether id, of an entry at server, is none for the index.
func isStrange(id pim.ClientMessageID, server pim.Millis) bool {
	t := idTime(id)
	return t < int64(server)-strangePast || t > int64(server)+strangeFuture
}

// strangers knows which IDs may have cells of their own: those with a time up to past,
// or from future to beyond. Those of clocks that are right are in neither.
type strangers struct {
	past           int64 // 0: none
	future, beyond int64 // 0: none
}

func (x *strangers) mayHave(t int64) bool {
	return x.past != 0 && t <= x.past || x.beyond != 0 && x.future <= t && t <= x.beyond
}

// take takes in a strange ID's time.
func (x *strangers) take(t int64, server pim.Millis) {
	switch {
	case t <= int64(server):
		x.past = max(x.past, t, 1)
	case x.beyond == 0:
		x.future, x.beyond = t, t
	default:
		x.future, x.beyond = min(x.future, t), max(x.beyond, t)
	}
}

// goneIDs holds what tells of IDs that are not remembered: key a strange ID, version
// its seq, and the cells of the index.
func goneIDs(c pim.ConversationID) store.Partition { return store.Partition("dedup/" + c) }

func strangeCell(c pim.ConversationID, id pim.ClientMessageID, seq pim.Seq) store.CellWrite {
	return store.CellWrite{
		Partition: goneIDs(c),
		Cell:      store.Cell{Key: string(id[:]), Version: uint64(seq)},
		Lifetime:  pim.DedupWindow,
	}
}
