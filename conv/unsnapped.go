package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// loadUnsnapped begins the state of a long log without a snapshot, which a version of pim
// before snapshots has written. It returns the entries that the caller applies to the state.
// The floor bounds the entries before them.
func (l *live) loadUnsnapped(ctx context.Context, s store.Store) ([]pim.Entry, error) {
	last, err := s.Last(ctx, inbox.Entries(l.id))
	if err != nil {
		return nil, err
	}
	l.ids, l.last, err = dedup.Earlier(ctx, s, l.id, last)
	if err != nil {
		return nil, err
	}
	if l.last == 0 {
		return readEntries(ctx, s, l.id, 1, last)
	}
	tail, err := readEntries(ctx, s, l.id, l.last, last)
	if err != nil {
		return nil, err
	}
	l.floor = floor{l.last, tail[0].Server + pim.OrderSlack}
	return tail[1:], nil
}
