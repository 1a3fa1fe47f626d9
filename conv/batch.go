package conv

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/dedup"
	"github.com/pim-im/pim/inbox"
	"github.com/pim-im/pim/store"
	"github.com/pim-im/pim/wire"
)

// batch is one append to a conversation's log, the effects that follow it, and the requests
// that wait for all of that.
type batch struct {
	machine   *machine
	conv      *live
	write     store.Write       // the entries, and the cells that follow from them
	effects   []*store.Write    // those to be written when write has taken effect
	retains   []store.CellWrite // of the last retain among the entries, and of unretained
	erases    []erasing         // of the erases in this batch, and of unerased: their effects are looked up a few at a time
	affects   bool              // there are or were effects
	affecting bool              // write has taken effect, and effects are under way
	left      int               // writes under way without an outcome; owned by the driver
	begun     time.Time         // when the writes under way were handed to the store

	stepped  int // requests, see Request.place
	entries  []pim.Entry
	encoded  []Encoded
	requests []*Request // one for each entry
	arena    []byte     // holds the bytes of encoded and write.Records
	lines    []byte     // holds the values of the members' lines

	// Requests that get no entry.
	repeats []repeat // an entry has the ID already, perhaps one of this batch; answered after the write, if there is one
	refused []Answer // the state forbids it; answered when the log's last seq and fence were compared
	failed  []Answer // the node cannot take it now, a look-up failed, or a state read since it came forbids it; answered at once

	joined   map[pim.UserID]pim.Seq    // users whose membership began, and the seq of the entry
	departed map[pim.UserID]inbox.Line // users whose membership or invitation ended or who were invited, and their last line
	reads    []pim.ConversationID      // own log: those whose read cells are in write
	settings bool                      // own log: commands other than reads took effect
	entities map[string]sent           // own log: entities whose setting changed, and the newest position of each that others may know of
	targets  []*target                 // whose folds changed, each once
	folds    int                       // bytes of their cells, about
	pins     bool                      // the pinned messages changed
	indexed  bool                      // write has a cell of the index of client message IDs
	level    int                       // of that cell
	snapshot pim.Seq                   // seq of the snapshot in write, of the state before this batch; 0: none
	deeds    []*deed                   // that the entries have begun
	rewrites bool                      // written for the cells that follow from the log, even without entries
}

// repeat is a request that was sent before: the entry at seq first has its client message ID.
type repeat struct {
	request *Request
	first   pim.Seq
	entry   *pim.Entry // nil if the entry is in the same batch
}

const (
	batchRequests = 1024     // requests that one batch takes, at most
	batchPushes   = 16 << 10 // entries in one by present members, at most, unless the entries are fewer than batchLeast
	batchLeast    = 64
	batchBytes    = 4 << 20  // bytes of entries in one, about
	batchCells    = 32 << 10 // cells for mentions, and for joined and departed users, three each, in one, about
	keepArena     = 64 << 10 // bytes of arena, and of lines, that a batch keeps for its next use, at most
)

// The last entry that a batch takes may go beyond batchBytes. The store takes the batch nevertheless.
const _ = uint(store.MaxAppendBytes - batchBytes - pim.MaxFrame)

// most returns how many requests b takes, at most. Every member is pushed all entries of a batch at a
// time, and who sent them is answered and sends again while that is under way. With long pushes to
// many members, the next entries come before the devices have taken the last ones. The devices are
// told to pull, and what they pull costs more than the push that was dropped. But a batch for very
// many members takes batchLeast, because it writes a line for each of them.
func (b *batch) most() int {
	return min(batchRequests, max(batchLeast, batchPushes/max(len(b.conv.present), 1)))
}

// full reports whether b should take no more requests.
func (b *batch) full() bool {
	return len(b.requests)+len(b.repeats)+len(b.refused)+len(b.failed) >= b.most() || len(b.arena)+b.folds >= batchBytes ||
		len(b.write.Cells)+3*(len(b.joined)+len(b.departed)) >= batchCells || len(b.erases) > 0
}

// empty reports whether nothing is in b.
func (b *batch) empty() bool {
	return len(b.requests)+len(b.repeats)+len(b.refused)+len(b.failed) == 0 && b.snapshot == 0 && !b.rewrites
}

// mustWrite reports whether b is to be written before its requests are answered. Repeats alone
// need no write, unless the state is stale: then the cells that follow from their entries may
// not be written yet.
func (b *batch) mustWrite() bool {
	return len(b.entries) > 0 || b.snapshot != 0 || b.rewrites || len(b.repeats) > 0 && b.conv.stale
}

// looks reports whether effects of b are to be looked up.
func (b *batch) looks() bool { return len(b.erases) > 0 }

// room returns how many bytes b takes up when it is empty, about.
func (b *batch) room() int {
	const itself, entry, cell = 512, 400, 80
	return itself + cap(b.arena) + cap(b.lines) + entry*cap(b.entries) + cell*cap(b.write.Cells)
}

// clear makes b ready for the next use.
func (b *batch) clear() {
	clear(b.entries)
	clear(b.encoded)
	clear(b.requests)
	clear(b.repeats)
	clear(b.refused)
	clear(b.failed)
	clear(b.write.Records)
	clear(b.write.Cells)
	clear(b.write.Erase)
	clear(b.targets)
	clear(b.reads)
	arena, lines := b.arena[:0], b.lines[:0]
	if cap(arena) > keepArena {
		arena = nil
	}
	if cap(lines) > keepArena {
		lines = nil
	}
	*b = batch{
		entries: b.entries[:0], encoded: b.encoded[:0], requests: b.requests[:0], repeats: b.repeats[:0],
		refused: b.refused[:0], failed: b.failed[:0],
		write:   store.Write{Records: b.write.Records[:0], Cells: b.write.Cells[:0], Erase: b.write.Erase[:0]},
		targets: b.targets[:0], arena: arena, lines: lines, reads: b.reads[:0],
	}
}

// batchPool holds the empty batches of a driver, for their next use. The zero value has none.
type batchPool struct {
	free  []*batch
	room  int // of free, see batch.room
	least int // the smallest room since shrink: of batches that were not needed
}

const (
	poolBytes = 1 << 20  // room of the batches that a pool keeps, at most
	idleBytes = 64 << 10 // and after shrink, if no more were needed
)

// get returns an empty batch.
func (p *batchPool) get() *batch {
	n := len(p.free)
	if n == 0 {
		return new(batch)
	}
	b := p.free[n-1]
	p.free[n-1] = nil
	p.free = p.free[:n-1]
	p.room -= b.room()
	p.least = min(p.least, p.room)
	return b
}

// put takes back b, which nobody refers to any more.
func (p *batchPool) put(b *batch) {
	b.clear()
	if room := b.room(); p.room+room <= poolBytes {
		p.free = append(p.free, b)
		p.room += room
	}
}

// shrink keeps the batches that were needed since it was called last, and few others. A driver
// calls it when nothing is under way. Under load that is so many times a second: clients read
// their answers, and the next messages are on their way.
func (p *batchPool) shrink() {
	for keep := max(p.room-p.least, idleBytes); p.room > keep; {
		p.get()
	}
	p.least = p.room
}

// add takes in r, whose outcome is an entry.
func (b *batch) add(r *Request, o *outcome) {
	at := len(b.arena)
	b.arena = wire.AppendEntry(b.arena, &o.entry)
	data := b.arena[at:len(b.arena):len(b.arena)]
	if len(b.entries) == 0 {
		b.write.After = o.entry.Seq - 1
	}
	b.entries = append(b.entries, o.entry)
	b.encoded = append(b.encoded, Encoded{o.entry.Seq, o.entry.Sender, o.entry.Device, data})
	b.write.Records = append(b.write.Records, data)
	b.requests = append(b.requests, r)
	if o.deed != nil {
		b.deeds = append(b.deeds, o.deed)
	}
	if o.strange {
		b.write.Cells = append(b.write.Cells, dedup.Strange(o.entry.Conversation, o.entry.ClientID, o.entry.Seq))
	}
	for _, m := range o.entry.Mentions {
		if m.Count != 0 {
			b.write.Cells = append(b.write.Cells, inbox.MentionCell(o.entry.Conversation, o.entry.Seq, m))
		}
	}
	if o.entity != "" {
		b.settings = b.settings || r.command.Kind != pim.CommandRead
		if b.entities == nil {
			b.entities = make(map[string]sent)
		}
		if o.shown.seq == 0 {
			o.shown = b.entities[o.entity]
		}
		b.entities[o.entity] = o.shown
	}
	if o.target != nil {
		b.refer(o)
	}
	switch o.entry.Kind {
	case pim.EntryErase:
		b.erases = append(b.erases, erasingOf(&o.entry, o.erased))
	case pim.EntryRetain:
		b.retains = b.conv.retain(&o.entry)
	}
	for _, u := range o.joined {
		if b.joined == nil {
			b.joined = make(map[pim.UserID]pim.Seq)
		}
		b.joined[u] = o.entry.Seq
	}
	for _, d := range o.departed {
		if b.departed == nil {
			b.departed = make(map[pim.UserID]inbox.Line)
		}
		keepLine(b.departed, d)
	}
}

// refer takes in o, whose entry refers to a message.
func (b *batch) refer(o *outcome) {
	if !slices.Contains(b.targets, o.target) {
		b.targets = append(b.targets, o.target)
		b.folds += o.target.size
	}
	b.pins = b.pins || o.pinned
	b.write.Erase = append(b.write.Erase, o.target.erasures...)
	o.target.erasures = nil
}

// appendWrites appends the writes that are next: the append, then some effects at a time.
func (b *batch) appendWrites(dst []*store.Write) []*store.Write {
	if !b.affecting {
		return append(dst, &b.write)
	}
	return append(dst, b.effects[:min(len(b.effects), effectsAtOnce)]...)
}

// next takes the outcomes of the writes that were under way. It reports whether there are
// more to be written, or returns why b has failed. If some effects fail and some do not, it is
// those that failed.
func (b *batch) next() (more bool, err error) {
	if !b.affecting {
		b.affecting = true
		return len(b.effects) > 0, b.write.Err
	}
	under := b.effects[:min(len(b.effects), effectsAtOnce)]
	failed := slices.DeleteFunc(slices.Clone(under), func(w *store.Write) bool { return w.Err == nil })
	if len(failed) == len(under) {
		return false, failed[0].Err
	}
	b.effects = append(b.effects[len(under):], failed...)
	return len(b.effects) > 0, nil
}

// finish adds the cells that follow from the entries: a part of the index of client message
// IDs, changed memberships, settings, folds, mentions, how far users have read, and every member's line. It makes the effects of the
// entries. If the state was stale, it also adds the cells and the effects that follow from the
// entries behind the snapshot.
func (b *batch) finish() {
	c := b.conv
	b.write.Log, b.write.Fence = inbox.Entries(c.id), c.fence
	cells := append(append(b.write.Cells, c.unsettledIDs...), c.unsettledMentions...)
	if cell, level, full := c.ids.Full(c.id); full {
		b.level, b.indexed = level, true
		cells = append(cells, cell)
	}
	for u := range b.joined {
		cells = c.memberCells(cells, u, inbox.Line{})
	}
	for u, line := range b.departed {
		cells = c.memberCells(cells, u, line)
	}
	for u, line := range c.unsettled {
		cells = c.memberCells(cells, u, line)
	}
	if len(b.targets)+len(c.unsettledFolds) > 0 || b.pins || c.unsettledPins {
		cells = b.appendFolds(cells)
	}
	if len(b.entities)+len(c.unsettledSettings) > 0 {
		entities := slices.AppendSeq(slices.Collect(maps.Keys(c.unsettledSettings)), maps.Keys(b.entities))
		slices.Sort(entities)
		entities = slices.Compact(entities)
		for _, entity := range entities {
			cells = append(cells, settingCell(c, entity))
			shown := b.entities[entity]
			if shown.seq == 0 {
				shown = c.unsettledSettings[entity]
			}
			cells = b.appendRead(cells, entity, shown)
		}
		b.effects = c.effects(entities)
		b.affects = len(b.effects) > 0
	}
	if b.erases = slices.Concat(c.unerased, b.erases); len(b.erases) > 0 {
		for i := range b.erases {
			cells = append(cells, inbox.ErasureCell(c.id, b.erases[i].Erasure))
		}
		b.affects = true
	}
	if b.retains == nil {
		b.retains = c.unretained
	}
	cells = append(cells, b.retains...)
	if c.id.IsGroup() {
		cells = b.appendSent(cells)
	}
	if c.last > 0 {
		if c.unlisted {
			cells = append(cells, b.logCell())
		}
		cells = b.addLines(cells)
	}
	b.write.Cells = cells
}

// logCell returns the cell of the log in the index of logs. Of a log that was loaded, the times
// of the entries before those of b are not known.
func (b *batch) logCell() store.CellWrite {
	if len(b.entries) > 0 && b.entries[0].Seq == 1 {
		return inbox.LogCell(b.conv.id, 1, b.entries[0].Server)
	}
	return inbox.LogCell(b.conv.id, max(b.conv.front, 1), 0)
}

// addLines appends to cells the line of every present member.
func (b *batch) addLines(cells []store.CellWrite) []store.CellWrite {
	c := b.conv
	values := inbox.Line{Count: c.count, Time: c.written}.AppendShared(b.lines)
	shared := values[:len(values):len(values)]
	for i, u := range c.present {
		value := shared
		if len(c.marks) > 0 {
			at := len(values)
			values = c.marks[i].Append(append(values, shared...))
			if c.mentions != nil {
				values = c.mentions.of[i].Append(values, c.mentions.all)
			}
			value = values[at:len(values):len(values)]
		}
		cells = append(cells, store.CellWrite{
			Partition: inbox.Fresh(u),
			Cell:      store.Cell{Key: string(c.id), Version: uint64(c.last), Value: value},
		})
	}
	b.lines = values
	return cells
}

// appendFolds appends the cells with the folds and the pinned messages to cells, and adds the
// erasures of unsettled recalls.
func (b *batch) appendFolds(cells []store.CellWrite) []store.CellWrite {
	c := b.conv
	for _, t := range b.targets {
		cells = append(cells, t.cell(c.id))
	}
	for _, t := range c.unsettledFolds {
		if c.targets[t.fold.Target] == t && !slices.Contains(b.targets, t) {
			cells = append(cells, t.cell(c.id))
		}
	}
	if b.pins || c.unsettledPins {
		cells = append(cells, pinsCell(c))
	}
	b.write.Erase = append(b.write.Erase, c.unsettledErasures...)
	if len(b.entries) == 0 {
		b.write.After = c.last // an erasure depends on it
	}
	return cells
}

func membershipCell(c *live, u pim.UserID) store.CellWrite {
	m := c.members[u]
	return store.CellWrite{
		Partition: inbox.Members(c.id),
		Cell:      store.Cell{Key: string(u), Version: uint64(m.changed), Value: m.Value()},
	}
}

func lineCell(c pim.ConversationID, u pim.UserID, l inbox.Line) store.CellWrite {
	return store.CellWrite{Partition: inbox.Fresh(u), Cell: l.Cell(c)}
}

// published returns the entries of b, and which of them each user is to be pushed.
func (b *batch) published() Published {
	p := Published{Conversation: b.conv.id, Entries: b.encoded, Members: b.conv.present, Read: b.reads, Settings: b.settings}
	if b.joined == nil && b.departed == nil {
		return p
	}
	p.Members = nil
	first, last := b.entries[0].Seq, b.entries[len(b.entries)-1].Seq
	for _, u := range b.conv.present {
		if from, ok := b.joined[u]; ok && from > first {
			p.Partly = append(p.Partly, Reader{u, from, last})
		} else {
			p.Members = append(p.Members, u)
		}
	}
	for u, line := range b.departed {
		if !b.conv.members[u].Present() && line.Newest != 0 {
			p.Partly = append(p.Partly, Reader{u, readsFrom(line, max(first, b.joined[u])), line.Newest})
		}
	}
	return p
}

// settingCell returns the cell that holds the setting of entity.
func settingCell(c *live, entity string) store.CellWrite {
	owner, _ := c.id.OwnUser()
	s := c.settings[entity]
	return store.CellWrite{Partition: inbox.Settings(owner), Cell: inbox.SettingCell(&s.Setting, s.version)}
}

// answer returns the answer to the request that made e.
func answer(r *Request, e *pim.Entry, duplicate bool) Answer {
	a := Answer{Request: r, Seq: e.Seq, Anchor: e.Anchor, Count: e.Count, Server: e.Server, Ahead: e.Ahead, Order: e.Order, Duplicate: duplicate, AllCount: e.AllCount}
	for _, m := range e.Mentions {
		a.Mentions = append(a.Mentions, m.Count)
	}
	if r.reads() && !bytes.Equal(e.Payload, r.Payload) {
		a.Payload = e.Payload
	}
	return a
}
