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
