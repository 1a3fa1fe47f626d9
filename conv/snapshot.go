package conv

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A snapshot is a conversation's state in a cell beside its log. A load reads the snapshot and
// the few entries behind it, however long the log is and however fast it grows.
//
// A snapshot holds the state that follows from the log up to the snapshot's seq. It also says
// that all cells and effects that follow from those entries are written. So a batch writes a
// snapshot of the state before its own entries. The outcome of the previous batch is known by
// then. Any writer's snapshot is true, even if another writer has gone on since; the highest
// seq wins. If a snapshot is lost, the next load takes longer, and takes marks from the members' lines.

const (
	// snapshotEvery is how many entries, and snapshotBytes how many bytes of them, may
	// stand behind the snapshot before the next is written, with the next batch.
	snapshotEvery = 48
	snapshotBytes = 16 << 10
	// If a conversation has nothing under way and more stands behind the snapshot than this, nobody
	// waits for the next batch: the snapshot is a write of its own. That happens after a long batch only.
	tailEntries = 64
	tailBytes   = 32 << 10
	// restedEvery is used in place of snapshotEvery when a conversation is at rest, and when it is put out
	// of memory. So messages that come one a minute have a snapshot for each 24 of them, not for each.
	restedEvery = 24

	// snapshotMembers is how many bytes of members a snapshot has, at most. A load reads the
	// members of a larger group from their cells.
	snapshotMembers = 8 << 10
	// snapshotSenders is how many senders' newest peaks (see pim.Anchors) a snapshot has, at
	// most. Its floor bounds the others.
	snapshotSenders = 512

	snapshotKey     = "snapshot"
	snapshotVersion = 4 // 1: without the marks; 2: without the mentions; 3: the index of logs may not have the log
)

// stateCells holds what a load of a conversation reads first: the snapshot, whose version is
// its seq, and the block cells of a direct conversation, see blocks.go.
func stateCells(c pim.ConversationID) store.Partition { return store.Partition("state/" + c) }

// snapshotCell returns the cell with the snapshot of l. All entries of l must be durable, with
// the cells that follow from them.
func (l *live) snapshotCell() store.CellWrite {
	l.dropSenders()
	l.ids.MoveToIndex(l.times.State().Server)
	return store.CellWrite{
		Partition: stateCells(l.id),
		Cell:      store.Cell{Key: snapshotKey, Version: uint64(l.last), Value: l.appendSnapshot(nil)},
	}
}

// snapshotWrite returns a write of the snapshot of l alone, for whose outcome nobody waits: if it is
// lost, the next load takes longer.
func (l *live) snapshotWrite() *store.Write {
	w := &store.Write{Cells: []store.CellWrite{l.snapshotCell()}}
	l.noted, l.behind, l.affected = l.last, 0, false
	return w
}

// dropSenders drops the Anchors of senders none of whose entries can be an anchor any more. If
// more than snapshotSenders are left, it drops those who were silent for longest and raises
// the floor over their entries.
func (c *conversation) dropSenders() {
	oldest := c.times.State().Server - pim.OrderWindow
	if c.floor.local <= oldest {
		c.floor = floor{}
	}
	for u, a := range c.order {
		if a.Latest() <= oldest {
			delete(c.order, u)
		}
	}
	if len(c.order) <= snapshotSenders {
		return
	}
	newest := func(u pim.UserID) pim.Seq { seq, _ := c.order[u].Peak(); return seq }
	users := slices.SortedFunc(maps.Keys(c.order), func(a, b pim.UserID) int { return cmp.Compare(newest(b), newest(a)) })
	for _, u := range users[snapshotSenders:] {
		c.floor.seq = max(c.floor.seq, newest(u))
		c.floor.local = max(c.floor.local, c.order[u].Latest())
		delete(c.order, u)
	}
}

// appendSnapshot appends the snapshot's value to dst.
func (l *live) appendSnapshot(dst []byte) []byte {
	c := l.conversation
	e := &varint.Encoder{B: dst}
	e.Number(snapshotVersion)
	e.Number(c.count)
	t := c.times.State()
	e.Times(t.Server, t.Ahead, t.Set, t.Upset, t.Eve, t.Was, t.Between)
	e.Number(uint64(c.floor.seq))
	e.Times(c.floor.local)
	c.ids.Append(e, c.last)
	appendSenders(e, c.order)
	appendBlocks(e, &c.blocks)
	appendMembers(e, c)
	appendMarks(e, c)
	appendMentions(e, c)
	return e.B
}

// restore sets l to the state in the snapshot at seq. If the snapshot has no members, l has
// none either.
func (l *live) restore(seq pim.Seq, value []byte) error {
	c := l.conversation
	d := &varint.Decoder{B: value}
	v := d.Number()
	if (v == 0 || v > snapshotVersion) && d.Err == nil {
		return pim.Errorf(pim.KindUnavailable, "snapshot of %s: version %d is of a later version of pim", c.id, v)
	}
	c.last, l.snapshot, l.noted = seq, seq, seq
	c.count = d.Number()
	c.times = pim.TimesState{
		Server: d.Time(), Ahead: d.Time(), Set: d.Time(), Upset: d.Time(), Eve: d.Time(), Was: d.Time(), Between: d.Time(),
	}.Times()
	t := c.times.State()
	c.written = t.Server - t.Ahead
	c.floor.seq, c.floor.local = pim.Seq(d.Number()), d.Time()
	c.ids = dedup.Restore(d, seq)
	restoreSenders(d, c)
	restoreBlocks(d, &c.blocks)
	restoreMembers(d, c)
	if v > 1 {
		restoreMarks(d, l)
	}
	if v > 2 {
		restoreMentions(d, l)
	}
	if v > 3 {
		l.unlisted = false
	}
	if d.End() != nil {
		return pim.Errorf(pim.KindCorrupt, "snapshot of %s at seq %d with the value %x", c.id, seq, value)
	}
	return nil
}

func appendSenders(e *varint.Encoder, order map[pim.UserID]*pim.Anchors) {
	n := 0
	for _, a := range order {
		if seq, _ := a.Peak(); seq != 0 {
			n++
		}
	}
	e.Number(uint64(n))
	for u, a := range order {
		if seq, local := a.Peak(); seq != 0 { // the floor bounds the entries of the others
			e.Text(string(u))
			e.Number(uint64(seq))
			e.Times(local)
		}
	}
}

func restoreSenders(d *varint.Decoder, c *conversation) {
	n := d.Number()
	for ; n > 0 && d.Err == nil; n-- {
		u, seq, local := pim.UserID(d.Text()), pim.Seq(d.Number()), d.Time()
		a := pim.Resumed(seq, local)
		if c.order == nil {
			c.order = make(map[pim.UserID]*pim.Anchors)
		}
		c.order[u] = &a
	}
}

// Flags of a snapshot's members.
const (
	membersElsewhere = 0 // they are too many: see their cells; or the conversation is not a group
	membersHere      = 1
)

func appendMembers(e *varint.Encoder, c *conversation) {
	at := len(e.B)
	if c.members != nil && len(c.members) < snapshotMembers {
		e.Number(membersHere)
		e.Number(uint64(len(c.members)))
		for u, m := range c.members {
			e.Text(string(u))
			e.Number(uint64(m.changed))
			e.Number(uint64(m.place))
			e.Text(string(m.Value()))
			if len(e.B)-at > snapshotMembers {
				break
			}
		}
		if len(e.B)-at <= snapshotMembers {
			return
		}
	}
	e.B = e.B[:at]
	e.Number(membersElsewhere)
}

func restoreMembers(d *varint.Decoder, c *conversation) {
	if d.Number() != membersHere {
		return
	}
	c.members = make(map[pim.UserID]*member)
	n := d.Number()
	for ; n > 0 && d.Err == nil; n-- {
		u := pim.UserID(d.Text())
		m := &member{changed: pim.Seq(d.Number()), place: int(d.Number())}
		var err error
		if m.Membership, err = inbox.ParseMembership([]byte(d.Text())); err != nil {
			d.Fail()
			return
		}
		c.members[u] = m
		if m.Present() {
			c.present = append(c.present, u)
		}
	}
}
