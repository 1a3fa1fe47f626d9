package access

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// When a device was last here is one cell, written relaxed, at most once an hour: when the device comes
// or goes, and once an hour while it stays. All times are full hours, so it is early by up to an hour,
// and after a crash by up to two.

const (
	// UsedEvery is how exactly it is known when a device was here last.
	UsedEvery  = pim.Millis(3_600_000)
	usedWaits  = 1 << 14 // devices that wait for a Flush, at most
	usedAtOnce = 256     // devices whose cells are looked at together

	// MaxDevices is how many devices a page of Devices has at most.
	MaxDevices = 100
)

// Used holds when a user's devices were here last: key device, version the time.
func Used(u pim.UserID) store.Partition { return store.Partition("used/" + u) }

type deviceKey struct {
	user   pim.UserID
	device pim.DeviceID
}

// Device is one of a user's devices.
type Device struct {
	ID        pim.DeviceID
	Used      pim.Millis // when it was here last, in full hours; 0: not known, an earlier version saw it
	SignedOut pim.Millis // tokens issued before are refused, if it is not older than the user's other devices; 0: never
}

// Note says that a device was here at the time at. A later Flush stores it. It waits for nothing:
// above usedWaits devices it is dropped.
func (b *Book) Note(user pim.UserID, device pim.DeviceID, at pim.Millis) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := deviceKey{user, device}
	if _, waits := b.used[key]; waits || len(b.used) < usedWaits {
		if b.used == nil {
			b.used = make(map[deviceKey]pim.Millis)
		}
		b.used[key] = max(b.used[key], at-at%UsedEvery)
	}
}

// Flush stores what Note was given, unless it is stored already. What fails is lost. It returns the
// first error.
func (b *Book) Flush(ctx context.Context) (failed error) {
	b.mu.Lock()
	used := b.used
	b.used = nil
	b.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(used), func(x, y deviceKey) int {
		return cmp.Or(cmp.Compare(x.user, y.user), cmp.Compare(x.device, y.device))
	})
	for some := range slices.Chunk(keys, usedAtOnce) {
		gets := make([]store.Get, len(some))
		for i, k := range some {
			gets[i] = store.Get{Partition: Used(k.user), Key: string(k.device)}
		}
		_ = b.store.Get(ctx, gets) // each has its own error
		var w store.Write
		for i, k := range some {
			if failed = cmp.Or(failed, gets[i].Err); gets[i].Err == nil && used[k] > pim.Millis(gets[i].Cell.Version) {
				w.Cells = append(w.Cells, store.CellWrite{Partition: Used(k.user), Cell: store.Cell{Key: string(k.device), Version: uint64(used[k])}})
			}
		}
		if len(w.Cells) == 0 {
			continue
		}
		if err := store.Commit(ctx, b.store, []*store.Write{&w}, store.Relaxed); err != nil {
			return cmp.Or(failed, err)
		}
	}
	return failed
}

// Devices returns a page of user's devices, those behind after, ascending: all that have come since pim
// keeps when, and all that have acknowledged something. more says that there are others behind it.
func (b *Book) Devices(ctx context.Context, user pim.UserID, after pim.DeviceID) (page []Device, more bool, err error) {
	found := make(map[pim.DeviceID]pim.Millis)
	upTo := "" // up to here both lists are known; empty: to their ends
	for _, p := range []store.Partition{Used(user), inbox.Devices(user)} {
		cells, err := b.store.List(ctx, p, string(after), MaxDevices)
		if err != nil {
			return nil, false, err
		}
		for _, c := range cells {
			at := pim.Millis(0)
			if p == Used(user) {
				at = pim.Millis(c.Version)
			}
			found[pim.DeviceID(c.Key)] = max(found[pim.DeviceID(c.Key)], at)
		}
		if last := len(cells) - 1; len(cells) == MaxDevices && (upTo == "" || cells[last].Key < upTo) {
			upTo = cells[last].Key
		}
	}
	b.mu.Lock()
	for key, at := range b.used { // what is not stored yet
		if key.user == user && key.device > after {
			found[key.device] = max(found[key.device], at)
		}
	}
	b.mu.Unlock()
	standing, err := b.Standing(ctx, user)
	if err != nil {
		return nil, false, err
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if upTo != "" && string(id) > upTo || len(page) == MaxDevices {
			return page, true, nil
		}
		d := Device{ID: id, Used: found[id]}
		if standing != nil {
			d.SignedOut = standing.Devices[id]
		}
		page = append(page, d)
	}
	return page, upTo != "", nil
}

// HasDevice reports whether device is one that Devices tells of.
func (b *Book) HasDevice(ctx context.Context, user pim.UserID, device pim.DeviceID) (bool, error) {
	gets := []store.Get{{Partition: Used(user), Key: string(device)}, {Partition: inbox.Devices(user), Key: string(device)}}
	if err := b.store.Get(ctx, gets); err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, waits := b.used[deviceKey{user, device}]
	return waits || gets[0].Cell.Version != 0 || gets[1].Cell.Version != 0, nil
}
