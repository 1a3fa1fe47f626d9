package inbox

import (
	"context"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// A trim of a conversation must reach devices that have all of it: neither their lists nor their
// pulls name it any more. So a trim writes a cell for each device, which stays until the device has
// acknowledged the front: until what is before it has left the device's storage. A sync lists
// these cells. See docs/decisions/0026.

// Fronts holds the fronts that a device has not acknowledged: key conversation, version the
// front, no value.
func Fronts(u pim.UserID, d pim.DeviceID) store.Partition {
	return store.Partition(store.PassingPrefix + "fronts/" + string(u) + "/" + string(d))
}

// Front says that the entries of a conversation before the seq Front were trimmed.
type Front struct {
	Conversation pim.ConversationID
	Front        pim.Seq
}

const (
	// MaxFronts is how many fronts one page of a sync has, at most.
	MaxFronts = 100
	// frontOverhead is how many bytes a front takes in a frame besides its conversation, at most.
	frontOverhead = 20
	// toldDevices is how many devices of a user are told of a trim: those whose IDs come first.
	// A user with more devices costs no more than that. The others hear of the front when they
	// pull, or when their list names the conversation.
	toldDevices = foldDevices
	// frontsPage is how many members are read, and how many cells are written, at once.
	frontsPage = 256
)

// fronts returns what the device of req has not acknowledged, MaxFronts at most, in the order of
// conversations.
func (x *Inbox) fronts(ctx context.Context, req *SyncRequest) ([]Front, error) {
	if !req.Fronts || req.After != "" {
		return nil, nil
	}
	cells, err := x.store.List(ctx, Fronts(req.User, req.Device), "", MaxFronts)
	if err != nil || len(cells) == 0 {
		return nil, err
	}
	fronts := make([]Front, len(cells))
	for i, c := range cells {
		fronts[i] = Front{pim.ConversationID(c.Key), pim.Seq(c.Version)}
	}
	return fronts, nil
}

// frontsSize returns how many bytes the fronts take in a PIMSyncResp, at most.
func (p *SyncPage) frontsSize() (size int) {
	for i := range p.Fronts {
		size += len(p.Fronts[i].Conversation) + frontOverhead
	}
	return size
}

// MaxFronts fronts, of IDs of up to 256 bytes, leave most of a frame to the list.
const _ = uint(wire.FrameRoom/2 - MaxFronts*(256+frontOverhead))

// TellFronts writes a cell of Fronts for each device of the two users of c, if they have it in their offline lists, or of
// c's members and former ones, whose devices may have its entries although it has left their lists: front is the log's front, and is durable. A device is one that has
// asked for a sync; of a user with more than 1,024 devices only so many are told.
//
// TellFronts goes in steps. If it fails, some are done; it may be repeated. Its writes are relaxed.
func TellFronts(ctx context.Context, s store.Store, c pim.ConversationID, front pim.Seq) error {
	t := telling{store: s, cell: store.Cell{Key: string(c), Version: uint64(front)}}
	if a, b, direct := c.DirectUsers(); direct {
		users := []pim.UserID{a, b}
		if a == b {
			users = users[:1]
		}
		if err := t.tell(ctx, users); err != nil {
			return err
		}
		return t.flush(ctx)
	}
	for after := ""; ; {
		members, err := s.List(ctx, Members(c), after, frontsPage)
		if err != nil {
			return err
		}
		for _, m := range members {
			if err := t.tellDevices(ctx, pim.UserID(m.Key)); err != nil {
				return err
			}
			after = m.Key
		}
		if len(members) < frontsPage {
			return t.flush(ctx)
		}
	}
}

// telling is a TellFronts under way.
type telling struct {
	store store.Store
	cell  store.Cell        // for every device
	wait  []store.CellWrite // to be written with the next flush
}

// tell writes the cells for the devices of those of users, at most frontsPage, who have the conversation in their lists, or
// leaves them to the next flush.
func (t *telling) tell(ctx context.Context, users []pim.UserID) error {
	lines := make([]store.Get, 2*len(users))
	for i, u := range users { // Fresh first: a line is in Lines before it is forgotten in Fresh
		lines[i] = store.Get{Partition: Fresh(u), Key: t.cell.Key}
		lines[len(users)+i] = store.Get{Partition: Lines(u), Key: t.cell.Key}
	}
	for _, some := range [][]store.Get{lines[:len(users)], lines[len(users):]} {
		if err := t.store.Get(ctx, some); err != nil {
			return err
		}
	}
	for i, u := range users {
		if lines[i].Cell.Version == 0 && lines[len(users)+i].Cell.Version == 0 {
			continue // the user's devices have nothing of it
		}
		if err := t.tellDevices(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// tellDevices tells the devices of u.
func (t *telling) tellDevices(ctx context.Context, u pim.UserID) error {
	devices := cursor{store: t.store, partition: Settled(u), size: fewLines}
	for range toldDevices {
		mark, ok, err := devices.peek(ctx)
		if err != nil || !ok {
			return err
		}
		devices.skip()
		t.wait = append(t.wait, store.CellWrite{Partition: Fronts(u, pim.DeviceID(mark.Key)), Cell: t.cell})
		if len(t.wait) == frontsPage {
			if err := t.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the cells that wait.
func (t *telling) flush(ctx context.Context) error {
	if len(t.wait) == 0 {
		return nil
	}
	cells := t.wait
	t.wait = nil
	return store.Commit(ctx, t.store, []*store.Write{{Cells: cells}}, store.Relaxed)
}

// NoteFronts takes what a PIMPushAck of a device says of fronts: the device has dropped what is
// before them. It waits for nothing, and drops what Note would drop. The next Flush or Settle
// forgets the fronts; one that is dropped or lost is told again.
func (a *Acks) NoteFronts(user pim.UserID, device pim.DeviceID, fronts []Front) {
	a.mu.Lock()
	d := a.waits(deviceKey{user, device})
	for _, f := range fronts {
		front, waits := d.fronts[f.Conversation]
		if waits || a.admit(user) {
			if d.fronts == nil {
				d.fronts = make(map[pim.ConversationID]pim.Seq, min(len(fronts), ackFirst))
			}
			d.fronts[f.Conversation] = max(front, f.Front)
		}
	}
	much := a.waiting > ackPending/2
	a.mu.Unlock()
	if much {
		a.flushEarly()
	}
}

// frontAck is a front that a device has acknowledged.
type frontAck struct {
	*deviceKey
	Front
}

// forgetFronts forgets the cells of fronts, each if it says no more than was acknowledged. Nothing
// is written for a front that was not told, so a device can neither fill the disk with made-up names
// nor hide later fronts from itself. The writes are relaxed. A cell that can't be read stays.
func forgetFronts(ctx context.Context, s store.Store, fronts []frontAck) error {
	for some := range slices.Chunk(fronts, ackLines) {
		gets := make([]store.Get, len(some))
		for i, f := range some {
			gets[i] = store.Get{Partition: Fronts(f.user, f.device), Key: string(f.Conversation)}
		}
		_ = s.Get(ctx, gets) // each has its own error
		var w store.Write
		for i, f := range some {
			if c := gets[i].Cell; gets[i].Err == nil && c.Version != 0 && pim.Seq(c.Version) <= f.Front.Front {
				w.Cells = append(w.Cells, store.CellWrite{
					Partition: gets[i].Partition, Cell: store.Cell{Key: c.Key, Version: c.Version}, Forget: true,
				})
			}
		}
		if len(w.Cells) == 0 {
			continue
		}
		if err := store.Commit(ctx, s, []*store.Write{&w}, store.Relaxed); err != nil {
			return err
		}
	}
	return nil
}
