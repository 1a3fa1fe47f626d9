package dedup

import (
	"context"
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// If a long log has no snapshot, a version of pim before snapshots has written it. That version
// knew the client message IDs of the last Unsnapped entries from the log. It wrote older IDs to
// cells, and one more cell (newestKey) that says up to which seq all IDs certainly have cells.

const (
	// Unsnapped is how many entries a log without a snapshot may have. If it has more, the
	// caller must get the IDs from Earlier.
	Unsnapped = 1024

	firstBatches = 8 // such a version wrote the first cell before it had forgotten so many times Unsnapped IDs

	// newestKey is the key of that cell. The cell's version is the greatest of the first eight
	// bytes of the IDs in cells. Its value is a seq, big-endian: all IDs up to that seq
	// certainly have cells.
	newestKey = "newest"
)

// Earlier returns the IDs of a log that has no snapshot. last is the log's last seq and greater
// than Unsnapped. All IDs up to the seq kept are in cells; the caller must Add the IDs of the
// entries after it.
func Earlier(ctx context.Context, s store.Store, c pim.ConversationID, last pim.Seq) (x IDs, kept pim.Seq, err error) {
	cell, ok, err := store.Lookup(ctx, s, partition(c), newestKey)
	if err != nil {
		return x, 0, err
	}
	gone := last - Unsnapped
	kept = gone
	switch {
	case len(cell.Value) >= 8:
		kept = min(pim.Seq(binary.BigEndian.Uint64(cell.Value)), gone)
	case ok: // written before the cell had a value
		kept -= min(gone, Unsnapped)
	default: // such a version wrote no cells for the first IDs that it forgot
		kept -= min(gone, firstBatches*Unsnapped)
	}
	x.recent.startAfter(kept, 0)
	if x.strangers.past = int64(cell.Version >> 16); cell.Version == store.MaxVersion {
		x.strangers.past = 1<<48 - 1 // the store has cut the version: an ID of any time may have a cell
	}
	return x, kept, nil
}
