package conv

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/store"
)

// startUnsnapped begins the state of a long log without a snapshot, which a version of pim
// before snapshots has written. last is the log's last seq. The caller applies the entries behind
// l.last to the state, and bounds those before them by the floor.
func (l *live) startUnsnapped(ctx context.Context, s store.Store, last pim.Seq) (err error) {
	l.ids, l.last, err = dedup.Earlier(ctx, s, l.id, last)
	return err
}
