package inbox

import (
	"context"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// A device is settled when it has acknowledged all of Lines. That is the oddness of
// the version of its cell in Settled, its mark, and it is kept by two rules:
//
//   - A sync that found the mark even, read then Fresh and then Lines, and saw no line
//     that its device has not acknowledged, raises the mark by one.
//   - Who folds a line that another device has not acknowledged raises that device's
//     mark to an even number before it forgets the line in Fresh: by one if it is odd,
//     by two if it is even, so that a sync under way, whose mark would be one more,
//     loses.
//
// A line that is folded was in Fresh when the marks were read, and it stays there
// until it is in Lines and the marks are raised. So a sync that reads its mark later
// than they were read sees the line, and does not settle unless the line has been
// acknowledged; and one that read its mark earlier loses. A device without a mark is
// not settled, and begins with one of 2, so that who folds knows of it.

// foldAbove is how many lines of Fresh that its device has acknowledged a sync looks
// at again rather than folding them: a fold costs two keys for each.
const foldAbove = 8

// foldBatch is how many lines are folded with one commit, at most.
const foldBatch = 512

const firstMark = 2

func settled(mark uint64) bool { return mark%2 == 1 }

// unsettled returns the mark that follows on mark when a line is folded that the
// device has not acknowledged.
func unsettled(mark uint64) uint64 { return mark + 2 - mark%2 }

// mark returns the mark of the device that asks. It makes the first; until that is
// written it returns 0, and the device cannot settle.
func (x *Inbox) mark(ctx context.Context, req *SyncRequest) (uint64, error) {
	cell, ok, err := x.store.Get(ctx, Settled(req.User), string(req.Device))
	if err != nil || ok {
		return cell.Version, err
	}
	mark := uint64(0)
	now := req.Later == nil
	first := markCell(req.User, string(req.Device), firstMark)
	req.later(ctx, func(ctx context.Context) {
		if err := x.raise(ctx, first); err == nil && now {
			mark = firstMark
		}
	})
	return mark, nil
}

func markCell(user pim.UserID, device string, version uint64) store.CellWrite {
	return store.CellWrite{Partition: Settled(user), Cell: store.Cell{Key: device, Version: version}}
}

// raise writes cells of which a crash may lose the newest: what follows on them is
// written after them, and lost before them.
func (x *Inbox) raise(ctx context.Context, cells ...store.CellWrite) error {
	return x.store.Commit(ctx, []*store.Write{{Cells: cells}}, store.Relaxed)
}

// fold is what one sync folds.
type fold struct {
	*Inbox
	user   pim.UserID
	device pim.DeviceID
	lines  []store.Cell // of Fresh, acknowledged by device
	begun  bool         // some have been folded
	later  func(context.Context, func(context.Context))
}

// add takes a line of Fresh that the device has acknowledged.
func (f *fold) add(ctx context.Context, line store.Cell) {
	if f.lines = append(f.lines, line); len(f.lines) == foldBatch {
		f.begun = true
		f.flush(ctx)
	}
}

// end folds the rest, unless it is little.
func (f *fold) end(ctx context.Context) {
	if f.begun || len(f.lines) > f.foldAbove {
		f.flush(ctx)
	}
}

// flush folds what was added, now or later. Another fold may be faster. That does no
// harm: then the lines are in Lines and the marks have been raised. A fold may stop after
// any step, by an error or a crash, and another does it again. Its error does not become
// the sync's: a store that cannot write says so to others.
func (f *fold) flush(ctx context.Context) {
	lines := f.lines
	f.lines = nil
	f.later(ctx, func(ctx context.Context) { f.write(ctx, lines) })
}

func (f *fold) write(ctx context.Context, lines []store.Cell) {
	cells, err := f.others(ctx, lines)
	if err != nil {
		return
	}
	forgets := make([]store.CellWrite, len(lines))
	for i, line := range lines {
		cells = append(cells, store.CellWrite{Partition: Lines(f.user), Cell: line})
		forgets[i] = store.CellWrite{
			Partition: Fresh(f.user), Cell: store.Cell{Key: line.Key, Version: line.Version}, Forget: true,
		}
	}
	if f.raise(ctx, cells...) == nil {
		_ = f.raise(ctx, forgets...)
	}
}

// others returns the marks to be raised of the devices that have not acknowledged all
// of lines.
func (f *fold) others(ctx context.Context, lines []store.Cell) (marks []store.CellWrite, err error) {
	devices := cursor{store: f.store, partition: Settled(f.user)}
	for {
		mark, ok, err := devices.peek(ctx)
		if err != nil || !ok {
			return marks, err
		}
		devices.skip()
		if mark.Key == string(f.device) {
			continue
		}
		all, err := f.acknowledged(ctx, pim.DeviceID(mark.Key), lines)
		if err != nil {
			return nil, err
		}
		if !all {
			marks = append(marks, markCell(f.user, mark.Key, unsettled(mark.Version)))
		}
	}
}

// acknowledged reports whether a device has acknowledged all of lines.
func (f *fold) acknowledged(ctx context.Context, device pim.DeviceID, lines []store.Cell) (bool, error) {
	for _, line := range lines {
		ack, _, err := f.store.Get(ctx, Acked(f.user, device), line.Key)
		if err != nil || ack.Version < line.Version {
			return false, err
		}
	}
	return true, nil
}
