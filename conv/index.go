package conv

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// The client message IDs of a log stand in its entries. To find an ID that nobody
// remembers, its entry has to be found, and an ID, a UUIDv7, carries the time at which
// it was made, which is little before it was appended. So an index says of which
// stretch of the log's entries the IDs have which times: one stretch for about a
// hundred entries, in the snapshot. When there are many the older ones go into a cell,
// of which one stretch of the next level tells, and so on: a log of a hundred million
// entries has four levels.
//
// Nothing is assumed of the clocks that made the IDs. An ID whose time is far from that
// of its entry would make a stretch of times long, and so all look-ups: it is strange,
// and has a cell of its own.

const (
	indexBlock = 128 // entries of a stretch, at most
	indexFan   = 32  // stretches in a cell
	indexReads = 512 // stretches of entries that one look-up reads, at most
)

// stretch is a part of the log, and the times of the IDs in it; from > to: none that
// the index is for.
type stretch struct {
	first, last pim.Seq
	from, to    int64
}

func (s *stretch) extend(t int64) {
	if s.from > s.to {
		s.from, s.to = t, t
		return
	}
	s.from, s.to = min(s.from, t), max(s.to, t)
}

func (s *stretch) has(t int64) bool { return s.from <= t && t <= s.to }

// index finds entries by their ID's time.
type index struct {
	// levels[0] are stretches of entries, levels[n] those that cells of level n hold;
	// each ascends by seq, and stands before the level below.
	levels [][]stretch
	fan    int // indexFan, but in tests
}

func (x *index) add(s stretch) { x.addAt(0, s) }

func (x *index) addAt(level int, s stretch) {
	if s.from > s.to {
		return
	}
	if level == len(x.levels) {
		x.levels = append(x.levels, nil)
	}
	x.levels[level] = append(x.levels[level], s)
}

func (x *index) width() int {
	if x.fan != 0 {
		return x.fan
	}
	return indexFan
}

// full returns the lowest level of which stretches are to go into a cell.
func (x *index) full() (level int, ok bool) {
	for level, stretches := range x.levels {
		if len(stretches) >= 2*x.width() {
			return level, true
		}
	}
	return 0, false
}

// cell returns the oldest stretches of a level as a cell.
func (x *index) cell(c pim.ConversationID, level int) store.CellWrite {
	some := x.levels[level][:x.width()]
	e := encoder{}
	e.stretches(some)
	return store.CellWrite{
		Partition: goneIDs(c),
		Cell:      store.Cell{Key: indexKey(level, some[0].first), Version: uint64(some[len(some)-1].last), Value: e.b},
		Lifetime:  pim.DedupWindow,
	}
}

// indexKey is the key of a cell that holds stretches of level, beginning at first. It
// is shorter than an ID.
func indexKey(level int, first pim.Seq) string {
	return string(binary.BigEndian.AppendUint64([]byte{'i', byte(level)}, uint64(first)))
}

// stored takes note that the cell of a level is durable.
func (x *index) stored(level int) {
	some := x.levels[level][:x.width()]
	whole := stretch{first: some[0].first, last: some[len(some)-1].last, from: 1, to: 0}
	for _, s := range some {
		whole.extend(s.from)
		whole.extend(s.to)
	}
	x.addAt(level+1, whole)
	x.levels[level] = slices.Delete(x.levels[level], 0, x.width())
}

// newest returns the greatest time of the IDs up to seq.
func (x *index) newest(seq pim.Seq) int64 {
	newest := int64(math.MinInt64)
	for _, stretches := range x.levels {
		for _, s := range stretches {
			if s.first <= seq {
				newest = max(newest, s.to)
			}
		}
	}
	return newest
}

func (x *index) size() (bytes int) {
	for _, stretches := range x.levels {
		bytes += 32 * cap(stretches)
	}
	return bytes
}

// search calls f on the stretches of entries that may have an ID of time t, the newest
// first, until it returns true.
func (x *index) search(ctx context.Context, st store.Store, c pim.ConversationID, t int64, f func(stretch) (bool, error)) error {
	for level, stretches := range x.levels {
		if done, err := searchLevel(ctx, st, c, level, stretches, t, f); done || err != nil {
			return err
		}
	}
	return nil
}

func searchLevel(ctx context.Context, st store.Store, c pim.ConversationID, level int, stretches []stretch, t int64, f func(stretch) (bool, error)) (bool, error) {
	for _, s := range slices.Backward(stretches) {
		if !s.has(t) {
			continue
		}
		done, err := false, error(nil)
		if level == 0 {
			done, err = f(s)
		} else {
			var below []stretch
			if below, err = readStretches(ctx, st, c, level-1, s.first); err == nil {
				done, err = searchLevel(ctx, st, c, level-1, below, t, f)
			}
		}
		if done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// readStretches reads a cell; one that has expired holds none.
func readStretches(ctx context.Context, st store.Store, c pim.ConversationID, level int, first pim.Seq) ([]stretch, error) {
	cell, ok, err := st.Get(ctx, goneIDs(c), indexKey(level, first))
	if err != nil || !ok {
		return nil, err
	}
	d := decoder{b: cell.Value}
	stretches := d.stretches()
	if d.err != nil || len(d.b) > 0 {
		return nil, pim.Errorf(pim.KindCorrupt, "index of client message IDs of %s, level %d, seq %d: %x", c, level, first, cell.Value)
	}
	return stretches, nil
}

func (e *encoder) stretches(all []stretch) {
	e.number(uint64(len(all)))
	seq, t := pim.Seq(0), int64(0)
	for _, s := range all {
		e.number(uint64(s.first - seq))
		e.number(uint64(s.last - s.first))
		e.times(pim.Millis(s.from-t), pim.Millis(s.to-s.from))
		seq, t = s.last, s.to
	}
}

func (d *decoder) stretches() (all []stretch) {
	seq, t := pim.Seq(0), int64(0)
	for n := d.number(); n > 0 && d.err == nil; n-- {
		var s stretch
		s.first = seq + pim.Seq(d.number())
		s.last = s.first + pim.Seq(d.number())
		s.from = t + int64(d.time())
		s.to = s.from + int64(d.time())
		seq, t = s.last, s.to
		all = append(all, s)
	}
	return all
}

// tooManyStretches refuses a look-up that would read very much: thousands of messages
// a second were written to the conversation when the ID was made.
var tooManyStretches = &pim.Error{Kind: pim.KindOverloaded, Text: "the client message ID may be that of too many messages", Err: idsTooWide}

// lookUp returns the seq of the ID of req if it is not remembered, 0 if there is none.
// Nothing is read for who never was a member.
func (l *live) lookUp(ctx context.Context, s store.Store, req *Request) (pim.Seq, error) {
	id := req.ClientID
	r, t := &l.recent, idTime(id)
	if l.id.IsGroup() && l.members[req.Sender] == nil {
		return 0, nil
	}
	if t > r.newestGone && !l.strangers.mayHave(t) || r.seq(id) != 0 {
		return 0, nil
	}
	if l.strangers.mayHave(t) {
		cell, _, err := s.Get(ctx, goneIDs(l.id), string(id[:]))
		if err != nil || cell.Version != 0 {
			return pim.Seq(cell.Version), err
		}
	}
	if t > r.newestGone {
		return 0, nil
	}
	if err := l.remember(ctx, s, t); err != nil || r.seq(id) != 0 {
		return r.seq(id), err
	}
	found, left := pim.Seq(0), indexReads
	err := l.index.search(ctx, s, l.id, t, func(part stretch) (bool, error) {
		if part.first >= r.first {
			return false, nil // remembered
		}
		if left--; left < 0 {
			return true, tooManyStretches
		}
		entries, err := readEntries(ctx, s, l.id, part.first, part.last)
		for i := range entries {
			if entries[i].ClientID == id {
				found = entries[i].Seq
			}
		}
		return found != 0, err
	})
	return found, err
}

// remember reads the entries back to the first that may have an ID of time t, unless
// they are very many: who sends one again sends others again. What a crash made many
// devices send again is read once.
func (l *live) remember(ctx context.Context, s store.Store, t int64) error {
	r := &l.recent
	from := r.first
	if len(l.index.levels) > 0 {
		for _, part := range slices.Backward(l.index.levels[0]) {
			if r.last-part.first >= rememberMost {
				break
			}
			if part.has(t) {
				from = min(from, part.first)
			}
		}
	}
	if from >= r.first {
		return nil
	}
	entries, err := readEntries(ctx, s, l.id, from, r.first-1)
	if err != nil {
		return err
	}
	r.addBefore(entries, l.index.newest(from-1), l.times.State().Server)
	return nil
}
