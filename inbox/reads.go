package inbox

import (
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Reads holds how far the users of a conversation have read it, see ReadCell.
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

// Hidden says of all users who have ever switched their receipts whether they give some. A user
// without a cell does.
const Hidden store.Partition = "hidden"

// HiddenCell says whether user gives receipts: not if off is set. Its key is the user, its version
// the seq of the no-receipts command in the user's own log.
func HiddenCell(user pim.UserID, at pim.Seq, off bool) store.Cell {
	c := store.Cell{Key: string(user), Version: uint64(at), Value: []byte{0}}
	if off {
		c.Value[0] = 1
	}
	return c
}

// hides reports whether c, a HiddenCell or none, says that its user gives no receipts.
func hides(c *store.Cell) bool { return c.Version != 0 && len(c.Value) > 0 && c.Value[0] == 1 }
