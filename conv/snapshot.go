package conv

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
)

// A snapshot is a conversation's state beside its log, so that a load reads it and the
// few entries behind it, however long the log is and however fast it grows.
//
// It says what the log says up to its seq, and besides that all that follows from those
// entries is in its cells. So it is written by a commit that comes after the one that
// it describes, when that one's outcome is known. Any writer's snapshot is true, also
// when another has gone on; the highest seq wins. One that is lost costs a longer load.

const (
	// snapshotEvery is how many entries, and snapshotBytes how many bytes of them, may
	// stand behind the snapshot before the next is written.
	snapshotEvery = 96
	snapshotBytes = 64 << 10
	// evictedEvery is as snapshotEvery, for a conversation that is put out of memory.
	evictedEvery = 48

	// snapshotMembers is how many bytes of members a snapshot has, at most; of a larger
	// group they are read from their cells.
	snapshotMembers = 8 << 10
	// snapshotSenders is how many senders' last peaks it has; the others are below its
	// floor.
	snapshotSenders = 512

	snapshotKey     = "snapshot"
	snapshotVersion = 1
)

// stateCells holds what a load of a conversation reads at once: the snapshot, version
// its seq, and the blocks of a direct one, see blocks.go.
func stateCells(c pim.ConversationID) store.Partition { return store.Partition("state/" + c) }

// snapshotCell returns the snapshot of l, all of which is settled.
func (l *live) snapshotCell() store.CellWrite {
	l.dropSenders()
	l.recent.settle(&l.index, l.times.State().Server)
	return store.CellWrite{
		Partition: stateCells(l.id),
		Cell:      store.Cell{Key: snapshotKey, Version: uint64(l.last), Value: l.appendSnapshot(nil)},
	}
}

// dropSenders forgets senders none of whose entries can be an anchor any more, and if
// very many are left those who were silent for longest.
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
	e := encoder{dst}
	e.number(snapshotVersion)
	e.number(c.count)
	t := c.times.State()
	e.times(t.Server, t.Ahead, t.Set, t.Upset, t.Eve, t.Was, t.Between)
	e.number(uint64(c.floor.seq))
	e.times(c.floor.local)
	e.ids(c)
	e.senders(c.order)
	e.blocks(&c.blocks)
	e.members(c)
	return e.b
}

// restore makes l what the snapshot at seq says. It leaves the members out if the
// snapshot does.
func (l *live) restore(seq pim.Seq, value []byte) error {
	c := l.conversation
	d := decoder{b: value}
	if v := d.number(); v != snapshotVersion && d.err == nil {
		return pim.Errorf(pim.KindUnavailable, "snapshot of %s: version %d is of a later version of pim", c.id, v)
	}
	c.last, l.snapshot = seq, seq
	c.count = d.number()
	c.times = pim.TimesState{
		Server: d.time(), Ahead: d.time(), Set: d.time(), Upset: d.time(), Eve: d.time(), Was: d.time(), Between: d.time(),
	}.Times()
	c.floor.seq, c.floor.local = pim.Seq(d.number()), d.time()
	d.ids(c)
	d.senders(c)
	d.blocks(&c.blocks)
	d.members(c)
	if d.err != nil || len(d.b) > 0 {
		return pim.Errorf(pim.KindCorrupt, "snapshot of %s at seq %d with the value %x", c.id, seq, value)
	}
	return nil
}

// ids appends what is known of client message IDs: the index, and those that are not
// in it.
func (e *encoder) ids(c *conversation) {
	e.times(pim.Millis(c.strangers.past), pim.Millis(c.strangers.future), pim.Millis(c.strangers.beyond))
	e.number(uint64(len(c.index.levels)))
	for _, stretches := range c.index.levels {
		e.stretches(stretches)
	}
	e.number(uint64(c.last - c.recent.kept))
	for seq := c.recent.kept + 1; seq <= c.last; seq++ {
		id, strange := c.recent.id(seq), byte(0)
		if c.recent.strange[seq] {
			strange = 1
		}
		e.b = append(append(e.b, id[:]...), strange)
	}
}

func (d *decoder) ids(c *conversation) {
	c.strangers = strangers{int64(d.time()), int64(d.time()), int64(d.time())}
	for n := d.number(); n > 0 && d.err == nil; n-- {
		c.index.levels = append(c.index.levels, d.stretches())
	}
	const size = len(pim.ClientMessageID{})
	n := pim.Seq(d.number())
	if n > c.last || n > pim.Seq(len(d.b)) {
		d.fail()
		return
	}
	c.recent.startAfter(c.last-n, c.index.newest(c.last-n))
	for ; n > 0 && d.err == nil; n-- {
		b := d.bytes(size + 1)
		c.recent.add(pim.ClientMessageID(b[:size]), b[size] == 1, 0)
	}
}

func (e *encoder) senders(order map[pim.UserID]*pim.Anchors) {
	n := 0
	for _, a := range order {
		if seq, _ := a.Peak(); seq != 0 {
			n++
		}
	}
	e.number(uint64(n))
	for u, a := range order {
		if seq, local := a.Peak(); seq != 0 { // of the others the floor says enough
			e.text(string(u))
			e.number(uint64(seq))
			e.times(local)
		}
	}
}

func (d *decoder) senders(c *conversation) {
	n := d.number()
	for ; n > 0 && d.err == nil; n-- {
		u, seq, local := pim.UserID(d.text()), pim.Seq(d.number()), d.time()
		a := pim.Resumed(seq, local)
		if c.order == nil {
			c.order = make(map[pim.UserID]*pim.Anchors)
		}
		c.order[u] = &a
	}
}

// Flags of a snapshot's members.
const (
	membersElsewhere = 0 // too many, or the conversation is no group: see their cells
	membersHere      = 1
)

func (e *encoder) members(c *conversation) {
	at := len(e.b)
	if c.members != nil && len(c.members) < snapshotMembers {
		e.number(membersHere)
		e.number(uint64(len(c.members)))
		for u, m := range c.members {
			e.text(string(u))
			e.number(uint64(m.changed))
			e.number(uint64(m.place))
			e.text(string(m.Value()))
			if len(e.b)-at > snapshotMembers {
				break
			}
		}
		if len(e.b)-at <= snapshotMembers {
			return
		}
	}
	e.b = e.b[:at]
	e.number(membersElsewhere)
}

func (d *decoder) members(c *conversation) {
	if d.number() != membersHere {
		return
	}
	c.members = make(map[pim.UserID]*member)
	n := d.number()
	for ; n > 0 && d.err == nil; n-- {
		u := pim.UserID(d.text())
		m := &member{changed: pim.Seq(d.number()), place: int(d.number())}
		var err error
		if m.Membership, err = inbox.ParseMembership([]byte(d.text())); err != nil {
			d.fail()
			return
		}
		c.members[u] = m
		if m.Present() {
			c.present = append(c.present, u)
		}
	}
}

// encoder appends the parts of a snapshot to b.
type encoder struct{ b []byte }

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) times(all ...pim.Millis) {
	for _, t := range all {
		e.b = binary.AppendVarint(e.b, int64(t))
	}
}

func (e *encoder) text(s string) { e.b = append(binary.AppendUvarint(e.b, uint64(len(s))), s...) }

// decoder takes them off b again. After an error it returns zeros.
type decoder struct {
	b   []byte
	err error
}

var errSnapshot = errors.New("malformed snapshot")

func (d *decoder) fail() { d.b, d.err = nil, errSnapshot }

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) time() pim.Millis {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return pim.Millis(v)
}

// bytes returns the next n bytes; they are a part of b.
func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return make([]byte, min(n, 32))
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	return string(d.bytes(int(n)))
}
