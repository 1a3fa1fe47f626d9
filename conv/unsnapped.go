package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/store"
)

// loadUnsnapped begins the state of a long log without a snapshot, which a version of pim
// before snapshots has written. last is the log's last seq. It returns the entries that the
// caller applies to the state. The floor bounds the entries before them.
func (l *live) loadUnsnapped(ctx context.Context, s store.Store, last pim.Seq) (tail []pim.Entry, err error) {
	l.ids, l.last, err = dedup.Earlier(ctx, s, l.id, last)
	if err != nil {
		return nil, err
	}
	tail, l.behind, err = readEntries(ctx, s, l.id, max(l.last, 1), last)
	if err != nil || l.last == 0 {
		return tail, err
	}
	l.floor = floor{l.last, tail[0].Server + pim.OrderSlack}
	return tail[1:], nil
}
