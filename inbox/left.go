package inbox

import (
	"context"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// A user's list would grow by every group that the user was ever put into. So the line of a group that the user has
// left, or was removed from, leaves the list when all of the user's devices have acknowledged it: then each knows
// that the membership has ended. What devices have of the group they keep, and who was a member may pull what they could.
//
// The devices are those with a mark, as for folds (fold.go). Until all have acknowledged the line it is folded like any other:
// it stays in Lines, and a device that has not acknowledged it walks. That device's walk, once it has acknowledged the
// line, finds it there again. A device that stays away for leftFor holds no line up.
//
// The line goes from Lines first, where an older one of the same group may be, then from Fresh, so a walk never sees
// the older one alone. The acknowledgements go last: without them the line would be offered again. All of that takes nothing newer: if
// the user has joined again meanwhile, that line and what was acknowledged of it stay. A drop that dies after any step is
// done again by the next sync, except for acknowledgements, of which some may be left then.

// leftFor is for how long the line of a group that was left waits for devices that have not acknowledged it.
const leftFor = 90 * 24 * time.Hour

// leftLine is the line of a group that the user has left, and what the group has in Fresh, the same or an
// older line; version 0: nothing.
type leftLine struct{ line, fresh store.Cell }

// hasLeft reports whether value is that of a Line that says that the user has left. One who is invited has not: such a
// line stays in the list.
func hasLeft(value []byte) bool { return len(value) > 0 && value[0]&(lineLeft|lineInvited) == lineLeft }

// dropLeft drops the lines of groups that were left, which were added since it was called last, now or later; see flush.
func (f *fold) dropLeft(ctx context.Context) {
	lines := f.left
	f.left = nil
	f.later(ctx, func(ctx context.Context) { f.drop(ctx, lines) })
}

// drop drops those of lines for which no device is waited for, and folds the others.
func (f *fold) drop(ctx context.Context, lines []leftLine) {
	marks, err := f.devices(ctx)
	if err != nil {
		return
	}
	devices := []pim.DeviceID{f.device}
	for _, m := range marks {
		if d := pim.DeviceID(m.Key); d != f.device {
			devices = append(devices, d)
		}
	}
	gone, waits, err := f.awaited(ctx, devices[1:], lines)
	if err != nil {
		return
	}
	if len(gone) > 0 && f.forget(ctx, Lines(f.user), gone, nil) == nil && f.forget(ctx, Fresh(f.user), gone, nil) == nil {
		for _, d := range devices {
			acked, err := f.ackedOf(ctx, d, gone)
			if err != nil || f.forget(ctx, Acked(f.user, d), gone, acked) != nil {
				break
			}
		}
	}
	var fresh []store.Cell
	for _, l := range waits {
		if l.fresh.Version > 0 {
			fresh = append(fresh, l.fresh)
		}
	}
	f.write(ctx, fresh)
}

// awaited returns those of lines that may go, and those that one of devices has not acknowledged and that are not
// older than leftFor.
func (f *fold) awaited(ctx context.Context, devices []pim.DeviceID, lines []leftLine) (gone, waits []leftLine, err error) {
	now := pim.MillisOf(f.now())
	for _, l := range lines {
		parsed, err := ParseLine(l.line)
		if err != nil {
			return nil, nil, err
		}
		if parsed.Time != 0 && now-parsed.Time > pim.Millis(leftFor.Milliseconds()) {
			gone = append(gone, l)
		} else {
			waits = append(waits, l)
		}
	}
	young := waits
	waits = nil
	for _, d := range devices {
		if len(young) == 0 {
			break
		}
		acked, err := f.ackedOf(ctx, d, young)
		if err != nil {
			return nil, nil, err
		}
		var all []leftLine
		for i, l := range young {
			if acked[i] >= l.line.Version {
				all = append(all, l)
			} else {
				waits = append(waits, l)
			}
		}
		young = all
	}
	return append(gone, young...), waits, nil
}

// ackedOf returns up to which seq a device has acknowledged the conversation of each of lines.
func (f *fold) ackedOf(ctx context.Context, device pim.DeviceID, lines []leftLine) ([]uint64, error) {
	gets := make([]store.Get, len(lines)) // foldBatch at most
	for i, l := range lines {
		gets[i] = store.Get{Partition: Acked(f.user, device), Key: l.line.Key}
	}
	if err := f.store.Get(ctx, gets); err != nil {
		return nil, err
	}
	acked := make([]uint64, len(lines))
	for i := range gets {
		acked[i] = gets[i].Cell.Version
	}
	return acked, nil
}

// forget forgets in p what is not newer than lines. If known is not nil, a line of which it says 0 has no cell there.
func (f *fold) forget(ctx context.Context, p store.Partition, lines []leftLine, known []uint64) error {
	var cells []store.CellWrite
	for i, l := range lines {
		if known == nil || known[i] != 0 {
			cells = append(cells, store.CellWrite{Partition: p, Cell: store.Cell{Key: l.line.Key, Version: l.line.Version}, Forget: true})
		}
	}
	if len(cells) == 0 {
		return nil // of lines that are known to have no cell in p
	}
	return f.raise(ctx, cells...)
}
