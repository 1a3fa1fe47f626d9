package inbox

import (
	"encoding/binary"
	"fmt"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Retained is a partition of the conversations that say for how long their entries are kept. It
// is for the same conversations as Logs(n), but has few of them: key conversation, version the seq
// of the last entry that says so, value from RetainCells.
func Retained(n int) store.Partition { return store.Partition(fmt.Sprintf("retain/%02x", n)) }

// Retaining says which of the partitions Retained(n) have conversations: key RetainingKey(n),
// version 1. So whoever looks through all of them asks only once if there are none.
const Retaining = store.Partition("retain")

// RetainingKey is the key of Retained(n) in Retaining.
func RetainingKey(n int) string { return fmt.Sprintf("%02x", n) }

// RetainingCell returns the cell which says that Retained(n) has conversations.
func RetainingCell(n int) store.CellWrite {
	return store.CellWrite{Partition: Retaining, Cell: store.Cell{Key: RetainingKey(n), Version: 1}}
}

// RetainCells returns the cells that say for how long c keeps its entries, since the entry at seq.
func RetainCells(c pim.ConversationID, seq pim.Seq, r pim.Retention) []store.CellWrite {
	n := LogsOf(c)
	value := binary.AppendUvarint(nil, uint64(r.Age))
	if r.From != 0 {
		value = binary.AppendUvarint(binary.AppendUvarint(value, uint64(r.Before)), uint64(r.From))
	}
	return []store.CellWrite{
		{Partition: Retained(n), Cell: store.Cell{Key: string(c), Version: uint64(seq), Value: value}},
		RetainingCell(n),
	}
}

// ParseRetainCell reads what RetainCells wrote into Retained. A cell that was never written says
// nothing.
func ParseRetainCell(c store.Cell) (pim.Retention, error) {
	if c.Version == 0 {
		return pim.Retention{}, nil
	}
	var fields [3]uint64 // a cell of an earlier version, or without a notice, has one
	read := 0
	for rest := c.Value; len(rest) > 0 && read < len(fields); read++ {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			break
		}
		fields[read], rest = v, rest[n:]
	}
	if read != 1 && read != len(fields) {
		return pim.Retention{}, pim.Errorf(pim.KindCorrupt, "how long entries of %q are kept: the value %x", c.Key, c.Value)
	}
	return pim.Retention{Age: pim.Millis(fields[0]), Before: pim.Millis(fields[1]), From: pim.Millis(fields[2])}, nil
}
