package inbox

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// trimmedPage is how many cells are read at once, and forgotten with one commit, after a trim.
const trimmedPage = 256

// ForgetTrimmed forgets what the cells of c hold of its messages before front, all of which were
// trimmed: their folds, and where they name users. The last mention of each user before front
// stays, since it counts those before it (see Mentions). What a late writer has written of messages
// that were trimmed earlier goes, too. How far users have erased what they wrote stays: it is one
// cell for each user, and they may erase again.
//
// ForgetTrimmed goes in steps. If it fails, some are done; it may be repeated. Its writes are relaxed.
func ForgetTrimmed(ctx context.Context, s store.Store, c pim.ConversationID, front pim.Seq) error {
	folds := forgetting{store: s, partition: Folds(c)}
	err := folds.run(ctx, func(cell store.Cell) (bool, string, error) {
		if len(cell.Key) != 8 {
			return false, "", pim.Errorf(pim.KindCorrupt, "a fold of %s has the key %x", c, cell.Key)
		}
		if binary.BigEndian.Uint64([]byte(cell.Key)) < uint64(front) {
			return true, "", nil
		}
		return false, FoldKey(math.MaxUint64), nil // they ascend
	})
	if err != nil {
		return err
	}
	var last pim.UserID // whose last mention before front was found
	mentions := forgetting{store: s, partition: Mentions(c)}
	return mentions.run(ctx, func(cell store.Cell) (bool, string, error) {
		user, seq, err := parseMentionKey(c, cell.Key)
		switch {
		case err != nil:
			return false, "", err
		case seq >= front:
			return false, mentionKey(user, front), nil // the newest one comes first
		case user != last:
			last = user
			return false, "", nil
		}
		return true, "", nil
	})
}

// forgetting walks over a partition and forgets cells of it.
type forgetting struct {
	store     store.Store
	partition store.Partition
}

// run calls f with the cells, ascending. f says whether the cell is to be forgotten, and after
// which greater key the walk goes on; empty: after the cell.
func (w *forgetting) run(ctx context.Context, f func(store.Cell) (gone bool, skip string, err error)) error {
	for after := ""; ; {
		cells, err := w.store.List(ctx, w.partition, after, trimmedPage)
		if err != nil || len(cells) == 0 {
			return err
		}
		var gone []store.CellWrite
		for _, cell := range cells {
			if cell.Key <= after {
				continue // skipped
			}
			forget, skip, err := f(cell)
			if err != nil {
				return err
			}
			if after = max(cell.Key, skip); forget {
				gone = append(gone, store.CellWrite{
					Partition: w.partition, Cell: store.Cell{Key: cell.Key, Version: store.MaxVersion}, Forget: true,
				})
			}
		}
		if len(gone) > 0 {
			if err := store.Commit(ctx, w.store, []*store.Write{{Cells: gone}}, store.Relaxed); err != nil {
				return err
			}
		}
	}
}
