package inbox

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// LogPartitions is how many partitions the index of logs has.
const LogPartitions = 64

// Logs is a partition of the index of logs: the conversations in it have a log with entries. Key
// conversation, version and value from LogCell. A user's own log is in none. n is below
// LogPartitions.
func Logs(n int) store.Partition { return store.Partition(fmt.Sprintf("logs/%02x", n)) }

// LogsOf returns the number of the partition that c is in.
func LogsOf(c pim.ConversationID) int {
	h := fnv.New32a()
	h.Write([]byte(c))
	return int(h.Sum32() % LogPartitions)
}

// LogCell returns the cell of c in the index of logs. It says that no entry from the seq front on
// was written before oldest, a server time. 0: that is not known.
func LogCell(c pim.ConversationID, front pim.Seq, oldest pim.Millis) store.CellWrite {
	w := store.CellWrite{Partition: Logs(LogsOf(c)), Cell: store.Cell{Key: string(c), Version: uint64(front)}}
	if oldest > 0 {
		w.Value = binary.BigEndian.AppendUint64(nil, uint64(oldest)) // of one version, the greatest value is the latest
	}
	return w
}

// ParseLogCell reads what LogCell wrote.
func ParseLogCell(c store.Cell) (front pim.Seq, oldest pim.Millis, err error) {
	switch len(c.Value) {
	case 0:
	case 8:
		oldest = pim.Millis(binary.BigEndian.Uint64(c.Value))
	default:
		return 0, 0, pim.Errorf(pim.KindCorrupt, "index of logs: %q has the value %x", c.Key, c.Value)
	}
	return pim.Seq(c.Version), oldest, nil
}

// Retained is a partition of the conversations that say for how long their entries are kept. It
// has the same conversations as Logs(n), but few of them: key conversation, version the seq of the
// last entry that says so, value from RetainCell.
func Retained(n int) store.Partition { return store.Partition(fmt.Sprintf("retain/%02x", n)) }

// RetainCell returns the cell of c in Retained. The entry at seq says that entries are kept for
// age; 0: for as long as the server says.
func RetainCell(c pim.ConversationID, seq pim.Seq, age pim.Millis) store.CellWrite {
	return store.CellWrite{
		Partition: Retained(LogsOf(c)),
		Cell:      store.Cell{Key: string(c), Version: uint64(seq), Value: binary.AppendUvarint(nil, uint64(age))},
	}
}

// ParseRetainCell reads what RetainCell wrote. A cell that was never written says 0.
func ParseRetainCell(c store.Cell) (age pim.Millis, err error) {
	if c.Version == 0 {
		return 0, nil
	}
	v, n := binary.Uvarint(c.Value)
	if n <= 0 {
		return 0, pim.Errorf(pim.KindCorrupt, "how long entries of %q are kept: the value %x", c.Key, c.Value)
	}
	return pim.Millis(v), nil
}
