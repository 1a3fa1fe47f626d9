package access

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// journal holds about whom something was done lately: key the time of the act, big-endian, and the
// user. A passing partition: lines are forgotten after Kept.
const journal = store.Partition(store.PassingPrefix + "revoked")

const (
	// Kept is for how long the journal has an act, at least.
	Kept = time.Hour
	// Overlap is how much further back than what it knows a reader of the journal looks. An act is in the
	// journal this long after its time at the latest, or its command has failed: clocks of nodes that
	// write differ by less than a second, and a write ends or fails within less than a minute.
	Overlap = 2 * time.Minute
	// maxLines is how many lines are read or forgotten at a time.
	maxLines = 512
)

func journalKey(at pim.Millis, user pim.UserID) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(max(at, 0)))) + string(user)
}

// Lately calls f with the users about whom something was done after since, less Overlap, each time anew;
// a user may come several times. It returns the time of the newest act, at least since. Errors are those of
// the store; f may have been called before.
func (b *Book) Lately(ctx context.Context, since pim.Millis, f func(pim.UserID)) (newest pim.Millis, err error) {
	newest = since
	for after := journalKey(since-pim.Millis(Overlap/time.Millisecond), ""); ; {
		cells, err := b.store.List(ctx, journal, after, maxLines)
		if err != nil {
			return since, err
		}
		for _, c := range cells {
			if len(c.Key) > 8 {
				newest = max(newest, pim.Millis(c.Version))
				f(pim.UserID(c.Key[8:]))
			}
		}
		if len(cells) < maxLines {
			return newest, nil
		}
		after = cells[len(cells)-1].Key
	}
}

// Forget takes out of the journal what is older than Kept at now, a few hundred lines at most. Nothing
// depends on when it is called, but for the journal's size.
func (b *Book) Forget(ctx context.Context, now pim.Millis) error {
	cells, err := b.store.List(ctx, journal, "", maxLines)
	if err != nil {
		return err
	}
	var w store.Write
	for _, c := range cells {
		if pim.Millis(c.Version) < now-pim.Millis(Kept/time.Millisecond) {
			w.Cells = append(w.Cells, store.CellWrite{Partition: journal, Cell: store.Cell{Key: c.Key, Version: c.Version}, Forget: true})
		}
	}
	if len(w.Cells) == 0 {
		return nil
	}
	return store.Commit(ctx, b.store, []*store.Write{&w}, store.Relaxed)
}
