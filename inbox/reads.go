package inbox

import (
	"encoding/binary"
	"strings"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Reads holds how far the users of a conversation have read it, see ReadCell, and which of a
// group's users give receipts, see ReceiptsCell.
func Reads(c pim.ConversationID) store.Partition { return store.Partition("reads/" + c) }

// ReadCell says that user has read everything up to seq, or sent the entry there, at the time at.
// Its key is the user, its version the seq.
func ReadCell(user pim.UserID, seq pim.Seq, at pim.Millis) store.Cell {
	return store.Cell{Key: string(user), Version: min(uint64(seq), store.MaxVersion), Value: AppendReadValue(nil, at)}
}

// AppendReadValue appends the value of a ReadCell to dst. An earlier time has a greater value, so
// of two cells for one seq the earlier one stays.
func AppendReadValue(dst []byte, at pim.Millis) []byte {
	return binary.BigEndian.AppendUint64(dst, ^uint64(max(at, 0)))
}

// readTime returns the time of a ReadCell. Later versions may append to its value.
func readTime(c *store.Cell) (pim.Millis, error) {
	if len(c.Value) < 8 {
		return 0, pim.Errorf(pim.KindCorrupt, "read cell of %s with the value %x", c.Key, c.Value)
	}
	return pim.Millis(^binary.BigEndian.Uint64(c.Value)), nil
}

const receiptsPrefix = "off/" // no user ID holds a '/'

// ReceiptsCell says whether user gives receipts in a group: not if off is set. at is the seq of
// the no-receipts command in the user's own log that says so, 0 if there never was one.
func ReceiptsCell(user pim.UserID, at pim.Seq, off bool) store.Cell {
	c := store.Cell{Key: receiptsPrefix + string(user), Version: max(1, uint64(at)), Value: []byte{0}}
	if off {
		c.Value[0] = 1 // wins over a cell that was written before the log's first command
	}
	return c
}

// receiptsUser returns the user of a ReceiptsCell; ok is false if c is no such cell.
func receiptsUser(c *store.Cell) (u pim.UserID, off, ok bool) {
	name, ok := strings.CutPrefix(c.Key, receiptsPrefix)
	return pim.UserID(name), len(c.Value) > 0 && c.Value[0] == 1, ok
}
