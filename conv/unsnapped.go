package conv

import (
	"context"
	"encoding/binary"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A long log without a snapshot was written by a version before there were any. It knew
// the client message IDs of the last recentIDs entries from the log; older ones are in
// cells, and beside them a cell that tells of which this is certain.

const (
	recentIDs    = 1024
	firstBatches = 8 // after so many of recentIDs without any cell a log was not written there
	// newestGoneKey has as its version the greatest of the first eight bytes of the IDs in
	// cells. Its value is a seq, big-endian: the IDs up to there are certainly in cells.
	newestGoneKey = "newest"
)

// loadUnsnapped returns the entries at the log's end that are to be taken. Those before
// them are below the floor.
func (l *live) loadUnsnapped(ctx context.Context, s store.Store) ([]pim.Entry, error) {
	last, err := s.Last(ctx, inbox.Entries(l.id))
	if err != nil {
		return nil, err
	}
	cell, ok, err := s.Get(ctx, goneIDs(l.id), newestGoneKey)
	if err != nil {
		return nil, err
	}
	gone := last - recentIDs
	kept := gone
	switch {
	case len(cell.Value) >= 8:
		kept = min(pim.Seq(binary.BigEndian.Uint64(cell.Value)), gone)
	case ok: // written before the cell had a value
		kept -= min(gone, recentIDs)
	default: // the first appends that pushed IDs out wrote none of their cells
		kept -= min(gone, firstBatches*recentIDs)
	}
	l.recent.startAfter(kept, 0)
	l.strangers.past = int64(cell.Version >> 16)
	l.last = kept
	if kept == 0 {
		return readEntries(ctx, s, l.id, 1, last)
	}
	tail, err := readEntries(ctx, s, l.id, kept, last)
	if err != nil {
		return nil, err
	}
	l.floor = floor{kept, tail[0].Server + pim.OrderSlack}
	return tail[1:], nil
}
