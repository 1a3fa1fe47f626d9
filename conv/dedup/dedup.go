// Package dedup knows which client message IDs the entries of a log have, so that a message
// that is sent again gets its first answer and adds nothing (I2).
//
// # Outline
//
// An ID is in one of three places.
//
//   - The IDs of the log's last entries are remembered, which means held in memory (recent).
//     A message that is sent again mostly comes soon.
//   - An older ID is found in its entry, by the index. An ID is a UUIDv7 and carries the time
//     at which a device made it, and its entry was appended soon after. The index says which
//     stretch of the log has IDs of which times, so that a look-up reads a few stretches.
//   - An ID whose time is far from that of its entry is strange. It has a cell of its own. In
//     the index it would widen the times of a stretch, and more look-ups would read that.
//
// Two comparisons tell that a new ID is in none of these places: its time is later than that
// of all IDs in the index that are not remembered, and it is outside the times of the strange
// IDs. So most conversations never look an ID up.
//
// A cell for each ID was tried. It cost a fifth of a message's CPU time, for look-ups that
// hardly ever happen (docs/decisions/0002 and 0021).
package dedup

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/store"
)

// IDs are the client message IDs of one log, a cache of that log. The zero value is that of an
// empty log. One goroutine at a time may use an IDs.
type IDs struct {
	recent    recent
	index     index
	strangers strangers
}

// Seq returns the seq of the entry with id, if id is remembered; else 0.
func (x *IDs) Seq(id pim.ClientMessageID) pim.Seq { return x.recent.seq(id) }

// Elsewhere reports whether an entry may have id although id is not remembered. Then only
// Search.LookUp can tell, which reads the store.
func (x *IDs) Elsewhere(id pim.ClientMessageID) bool {
	t := idTime(id)
	return (t <= x.recent.newestGone || x.strangers.mayHave(t)) && x.recent.seq(id) == 0
}

// Remembers reports whether the IDs of all entries behind seq are remembered.
func (x *IDs) Remembers(seq pim.Seq) bool { return x.recent.first <= seq+1 }

// Add takes in the ID of the log's next entry, and that entry's server time. It reports
// whether the ID is strange: then the caller writes the cell that Strange returns in the same
// write as the entry.
func (x *IDs) Add(id pim.ClientMessageID, server pim.Millis) (strange bool) {
	if strange = isStrange(id, server); strange {
		x.strangers.take(idTime(id), server)
	}
	x.recent.add(id, strange, server)
	return strange
}

// The index has only IDs whose time is close to the server time of their entry. So a client
// cannot make look-ups long by the IDs that it makes: a look-up reads the entries of some ten
// seconds. An ID of another time is strange, and is written to a cell of its own with its
// entry. A message that waited for a network has such an ID, and so have the messages of a
// device whose clock is wrong.

const (
	strangePast   = 10_000 // ms that an ID's time may be before its entry's server time
	strangeFuture = 1_000  // ms that it may be after
)

// isStrange reports whether id is strange, if its entry has the server time server.
func isStrange(id pim.ClientMessageID, server pim.Millis) bool {
	t := idTime(id)
	return t < int64(server)-strangePast || t > int64(server)+strangeFuture
}

// strangers knows which IDs may have cells of their own: those with a time up to past, or from
// future to beyond. A new ID made by a right clock is usually in neither range.
type strangers struct {
	past           int64 // 0: none
	future, beyond int64 // 0: none
}

func (x *strangers) mayHave(t int64) bool {
	return x.past != 0 && t <= x.past || x.beyond != 0 && x.future <= t && t <= x.beyond
}

// take takes in t, the time of a strange ID whose entry has the server time server.
func (x *strangers) take(t int64, server pim.Millis) {
	switch {
	case t <= int64(server):
		x.past = max(x.past, t, 1)
	case x.beyond == 0:
		x.future, x.beyond = t, t
	default:
		x.future, x.beyond = min(x.future, t), max(x.beyond, t)
	}
}

// Strange returns the cell of id, a strange ID, whose entry is at seq.
func Strange(c pim.ConversationID, id pim.ClientMessageID, seq pim.Seq) store.CellWrite {
	return store.CellWrite{
		Partition: partition(c),
		Cell:      store.Cell{Key: string(id[:]), Version: uint64(seq)},
		Lifetime:  pim.DedupWindow,
	}
}

// partition holds the cells of strange IDs (the key is the ID, the version the entry's seq) and
// the cells of the index.
func partition(c pim.ConversationID) store.Partition { return store.Partition("dedup/" + c) }

// Grow makes room for n IDs more, all of which will be added.
func (x *IDs) Grow(n int) { x.recent.grow(n) }

// Skip takes note that the entries up to seq were trimmed, and forgets the IDs that are
// remembered. The next ID that is added is that of the entry behind seq.
func (x *IDs) Skip(seq pim.Seq) { x.recent.startAfter(seq, x.index.newest(seq)) }

// MoveToIndex moves all IDs but the last notIndexed into the index, so that the memory and the
// snapshot stay small. All entries must be durable. now is the conversation's time.
func (x *IDs) MoveToIndex(now pim.Millis) { x.recent.moveTo(&x.index, now) }

// Full returns a cell with the oldest part of a level of the index, if that level has grown so
// much that the next write must take the cell along. When the cell is durable, the caller
// calls Stored with level.
func (x *IDs) Full(c pim.ConversationID) (cell store.CellWrite, level int, ok bool) {
	level, ok = x.index.full()
	if !ok {
		return store.CellWrite{}, 0, false
	}
	return x.index.cell(c, level), level, true
}

// Stored takes note that the cell that Full returned with level is durable.
func (x *IDs) Stored(level int) { x.index.stored(level) }

// Room returns how many bytes of memory the remembered IDs take up. A single LookUp may change
// that by much.
func (x *IDs) Room() int { return x.recent.room() }

// Others returns how many bytes of memory everything but Room takes up.
func (x *IDs) Others() int { return x.recent.others() + x.index.size() }

// Append appends to a snapshot what Restore needs: the times of strange IDs, the index, and the
// IDs up to last, the log's last seq, that are not in the index.
func (x *IDs) Append(e *varint.Encoder, last pim.Seq) {
	s := &x.strangers
	e.Times(pim.Millis(s.past), pim.Millis(s.future), pim.Millis(s.beyond))
	e.Number(uint64(len(x.index.levels)))
	for _, stretches := range x.index.levels {
		appendStretches(e, stretches)
	}
	e.Number(uint64(last - x.recent.kept))
	for seq := x.recent.kept + 1; seq <= last; seq++ {
		id, strange := x.recent.id(seq), byte(0)
		if x.recent.strange[seq] {
			strange = 1
		}
		e.B = append(append(e.B, id[:]...), strange)
	}
}

// Restore returns the IDs of a log up to last that Append has appended. If the value is
// malformed, d.Err is set.
func Restore(d *varint.Decoder, last pim.Seq) (x IDs) {
	x.strangers = strangers{int64(d.Time()), int64(d.Time()), int64(d.Time())}
	for n := d.Number(); n > 0 && d.Err == nil; n-- {
		x.index.levels = append(x.index.levels, readStretches(d))
	}
	const size = len(pim.ClientMessageID{})
	n := pim.Seq(d.Number())
	if n > last || n > pim.Seq(len(d.B)) {
		d.Fail()
		return x
	}
	x.recent.startAfter(last-n, x.index.newest(last-n))
	x.recent.grow(int(n))
	for ; n > 0 && d.Err == nil; n-- {
		b := d.Bytes(size + 1)
		x.recent.add(pim.ClientMessageID(b[:size]), b[size] == 1, 0)
	}
	return x
}
