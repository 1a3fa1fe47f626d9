package inbox

import (
	"context"
	"errors"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// A device is settled when it has acknowledged all of Lines. Its mark, the version of
// its cell in Settled, is odd then. Two rules keep this true:
//
//   - A sync that found the mark even, then read Fresh, then Lines, and saw no line that
//     its device has not acknowledged, raises the mark by one.
//   - A sync that folds a line that another device has not acknowledged raises the mark
//     of that device to an even number before it forgets the line in Fresh: by one if
//     the mark is odd, by two if it is even. So a sync of that device that is under way,
//     and would raise the mark by one, loses: the higher version wins.
//
// A line that is folded was in Fresh when the fold read the marks, and it stays there
// until it is in Lines and the marks are raised. So a sync that reads its own mark
// after the fold read the marks sees the line, and does not settle its device unless
// the device has acknowledged the line. A sync that read its own mark earlier loses. A
// device without a mark is not settled; it begins with a mark of 2, so that folds know
// of it.

// foldAbove is how many acknowledged lines a sync leaves in Fresh, to be looked at by
// the next sync again, rather than folding them: a fold costs two keys for each.
const foldAbove = 8

// foldDevices is how many devices a user may have for lines to be folded. A fold looks at the
// marks of all of them. The lines of a user with more devices stay in Fresh, so that user's
// syncs take longer, and nobody else's do.
const foldDevices = 1024

// foldBatch is how many lines are folded with one commit, at most.
const foldBatch = 512

// foldFew is how many acknowledgements of a device a fold looks up first.
const foldFew = 8

const firstMark = 2

func settled(mark uint64) bool { return mark%2 == 1 }

// unsettled returns the mark that a device gets after mark when a line is folded that
// it has not acknowledged.
func unsettled(mark uint64) uint64 { return mark + 2 - mark%2 }

// mark returns the mark of the device that asks. If it has none, mark writes its first
// one, or leaves that to req.Later; until the first one is written, mark returns 0 and
// the device cannot settle. For a device that asks for fronts mark writes it now, if that takes less than
// markPatience, before the list is read: a trim that does not find the mark was over before that, so the list tells its front.
// A device that asks for no fronts gets no mark before it has acknowledged something: it may be a command that is run once,
// and a trim tells so many devices of a user only.
func (x *Inbox) mark(ctx context.Context, req *SyncRequest) (uint64, error) {
	cell, ok, err := store.Lookup(ctx, x.store, Settled(req.User), string(req.Device))
	if err != nil || ok {
		return cell.Version, err
	}
	if !req.Fronts {
		acked, err := x.store.List(ctx, Acked(req.User, req.Device), "", 1)
		if err != nil || len(acked) == 0 {
			return 0, err
		}
	}
	first := markCell(req.User, string(req.Device), firstMark)
	switch {
	case req.Later == nil:
		err = x.raise(ctx, first)
	case req.Fronts:
		err = x.raiseSoon(ctx, first)
	default:
		req.Later(func(ctx context.Context) { _ = x.raise(ctx, first) })
		return 0, nil
	}
	if err != nil {
		return 0, nil // the next sync tries again
	}
	return firstMark, nil
}

// markPatience is for how long a sync waits for the first mark of its device to be written.
const markPatience = time.Second

// errLate says that a cell is not written after markPatience. It may be later.
var errLate = pim.Errorf(pim.KindTimeout, "the store takes longer than %v to write a mark", markPatience)

// raiseSoon is raise, but a disk that hangs holds up neither an answer nor the end of a connection.
func (x *Inbox) raiseSoon(ctx context.Context, cell store.CellWrite) error {
	written := make(chan error, 1)
	x.store.Begin(ctx, []*store.Write{{Cells: []store.CellWrite{cell}}}, store.Relaxed, func(w *store.Write) { written <- w.Err })
	patience := time.NewTimer(markPatience)
	defer patience.Stop()
	select {
	case err := <-written:
		return err
	case <-patience.C:
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}

func markCell(user pim.UserID, device string, version uint64) store.CellWrite {
	return store.CellWrite{Partition: Settled(user), Cell: store.Cell{Key: device, Version: version}}
}

// raise writes cells relaxed. A crash may lose the newest ones first, which is safe: a
// write that relies on these cells is made after them, and so is lost before them.
func (x *Inbox) raise(ctx context.Context, cells ...store.CellWrite) error {
	return store.Commit(ctx, x.store, []*store.Write{{Cells: cells}}, store.Relaxed)
}

// fold is what one sync folds.
type fold struct {
	*Inbox
	user   pim.UserID
	device pim.DeviceID
	lines  []store.Cell // of Fresh, acknowledged by device
	left   []leftLine   // of groups that the user has left, acknowledged by device
	begun  bool         // some have been folded
	later  func(context.Context, func(context.Context))
}

// add takes a line that the device has acknowledged.
func (f *fold) add(ctx context.Context, l *line) {
	switch {
	case hasLeft(l.Value):
		if f.left = append(f.left, leftLine{l.Cell, l.fresh}); len(f.left) == foldBatch {
			f.dropLeft(ctx)
		}
	case l.fresh.Version > 0:
		if f.lines = append(f.lines, l.fresh); len(f.lines) == foldBatch {
			f.begun = true
			f.flush(ctx)
		}
	}
}

// end folds the rest, unless all lines that were added are foldAbove at most. Lines of groups that the user has
// left are few, and leave at once.
func (f *fold) end(ctx context.Context) {
	if f.begun || len(f.lines) > f.foldAbove {
		f.flush(ctx)
	}
	if len(f.left) > 0 {
		f.dropLeft(ctx)
	}
}

// flush folds the lines that were added since the last flush, now or later. Another
// sync may fold them first. That does no harm: then the lines are in Lines and the marks
// have been raised. A fold may stop after any step, by an error or a crash; another sync
// does it again. The sync does not return a fold's error: it has its answer, and others
// report a store that cannot write.
func (f *fold) flush(ctx context.Context) {
	lines := f.lines
	f.lines = nil
	f.later(ctx, func(ctx context.Context) { f.write(ctx, lines) })
}

func (f *fold) write(ctx context.Context, lines []store.Cell) {
	if len(lines) == 0 {
		return
	}
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

// errManyDevices says that a user has more than foldDevices devices.
var errManyDevices = errors.New("too many devices to fold for")

// others returns the raised marks of those other devices of the user that have not
// acknowledged all of lines.
func (f *fold) others(ctx context.Context, lines []store.Cell) (marks []store.CellWrite, err error) {
	devices, err := f.devices(ctx)
	if err != nil {
		return nil, err
	}
	for _, mark := range devices {
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
	return marks, nil
}

// devices returns the marks of the user's devices, or errManyDevices.
func (f *fold) devices(ctx context.Context) (marks []store.Cell, err error) {
	all := cursor{store: f.store, partition: Settled(f.user)}
	for {
		mark, ok, err := all.peek(ctx)
		if err != nil || !ok {
			return marks, err
		}
		if len(marks) == foldDevices {
			return nil, errManyDevices
		}
		marks = append(marks, mark)
		all.skip()
	}
}

// acknowledged reports whether a device has acknowledged all of lines.
func (f *fold) acknowledged(ctx context.Context, device pim.DeviceID, lines []store.Cell) (bool, error) {
	few := foldFew // most devices have either all of lines or not even the first ones
	for len(lines) > 0 {
		gets := make([]store.Get, min(few, len(lines)))
		for i := range gets {
			gets[i] = store.Get{Partition: Acked(f.user, device), Key: lines[i].Key}
		}
		if err := f.store.Get(ctx, gets); err != nil {
			return false, err
		}
		for i := range gets {
			if gets[i].Cell.Version < lines[i].Version {
				return false, nil
			}
		}
		lines, few = lines[len(gets):], foldBatch
	}
	return true, nil
}
