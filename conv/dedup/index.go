package dedup

import (
	"context"
	"encoding/binary"
	"math"
	"slices"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/conv/varint"
	"github.com/pim-im/pim/store"
)

// The index says for each stretch of the log, about a hundred entries, which times the IDs in
// it have. The stretches are in the snapshot. When there are many, the oldest go into a cell,
// and one stretch of the next level stands for that cell, and so on: a log of a hundred
// million entries has four levels.
//
// The index assumes nothing about the clocks that made the IDs, see isStrange.

const (
	indexBlock = 128 // entries of a stretch, at most
	indexFan   = 32  // stretches in a cell
)

// stretch is a part of the log, and the times of the IDs in it that are not strange. If there
// are no such IDs, from > to.
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

// index finds the stretches of entries that may have an ID of a given time.
type index struct {
	// levels[0] are stretches of entries. A stretch of levels[n] stands for a cell that holds
	// stretches of level n-1. Each level ascends by seq, and lies before the level below it.
	levels [][]stretch
	fan    int // set by tests only; 0: indexFan
}

func (x *index) add(s stretch) { x.addAt(0, s) }

func (x *index) addAt(level int, s stretch) {
	if s.from > s.to {
		return
	}
	if level == len(x.levels) {
		x.levels = append(x.levels, nil)
	}
	if n := len(x.levels[level]); level == 0 && n > 0 && x.levels[0][n-1].take(s) {
		return
	}
	x.levels[level] = append(x.levels[level], s)
}

// take makes s, which has entries, one with the stretch next if that follows directly and both together are
// short enough. Stretches that a snapshot brings are shorter than those that are worth a place.
func (s *stretch) take(next stretch) bool {
	if next.first != s.last+1 || next.last-s.first >= indexBlock {
		return false
	}
	s.last = next.last
	s.extend(next.from)
	s.extend(next.to)
	return true
}

func (x *index) width() int {
	if x.fan != 0 {
		return x.fan
	}
	return indexFan
}

// full returns the lowest level that has so many stretches that the oldest are to go into a
// cell.
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
	var e varint.Encoder
	appendStretches(&e, some)
	return store.CellWrite{
		Partition: partition(c),
		Cell:      store.Cell{Key: indexKey(level, some[0].first), Version: uint64(some[len(some)-1].last), Value: e.B},
		Lifetime:  pim.DedupWindow,
	}
}

// indexKey returns the key of a cell that holds stretches of level, beginning at first. It is
// shorter than an ID, so it can't be the key of a strange ID.
func indexKey(level int, first pim.Seq) string {
	return string(binary.BigEndian.AppendUint64([]byte{'i', byte(level)}, uint64(first)))
}

// stored takes note that the cell of a level is durable: one stretch of the next level
// replaces the stretches in it.
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

// newest returns the greatest time in the stretches that begin at seq or before.
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

// search calls f on the stretches of entries that may have an ID of time t, the newest first,
// until f returns true or an error.
func (x *index) search(ctx context.Context, log Log, t int64, f func(stretch) (bool, error)) error {
	for level, stretches := range x.levels {
		if done, err := searchLevel(ctx, log, level, stretches, t, f); done || err != nil {
			return err
		}
	}
	return nil
}

func searchLevel(ctx context.Context, log Log, level int, stretches []stretch, t int64, f func(stretch) (bool, error)) (bool, error) {
	for _, s := range slices.Backward(stretches) {
		if !s.has(t) {
			continue
		}
		done, err := false, error(nil)
		if level == 0 {
			done, err = f(s)
		} else {
			var below []stretch
			if below, err = readCell(ctx, log, level-1, s.first); err == nil {
				done, err = searchLevel(ctx, log, level-1, below, t, f)
			}
		}
		if done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// readCell reads the stretches in a cell of the index; none if the cell has expired.
func readCell(ctx context.Context, log Log, level int, first pim.Seq) ([]stretch, error) {
	cell, ok, err := store.Lookup(ctx, log.Store, partition(log.Conversation), indexKey(level, first))
	if err != nil || !ok {
		return nil, err
	}
	d := varint.Decoder{B: cell.Value}
	stretches := readStretches(&d)
	if d.End() != nil {
		return nil, pim.Errorf(pim.KindCorrupt, "index of client message IDs of %s, level %d, seq %d: %x", log.Conversation, level, first, cell.Value)
	}
	return stretches, nil
}

func appendStretches(e *varint.Encoder, stretches []stretch) {
	e.Number(uint64(len(stretches)))
	seq, t := pim.Seq(0), int64(0)
	for _, s := range stretches {
		e.Number(uint64(s.first - seq))
		e.Number(uint64(s.last - s.first))
		e.Times(pim.Millis(s.from-t), pim.Millis(s.to-s.from))
		seq, t = s.last, s.to
	}
}

func readStretches(d *varint.Decoder) (stretches []stretch) {
	seq, t := pim.Seq(0), int64(0)
	for n := d.Number(); n > 0 && d.Err == nil; n-- {
		var s stretch
		s.first = seq + pim.Seq(d.Number())
		s.last = s.first + pim.Seq(d.Number())
		s.from = t + int64(d.Time())
		s.to = s.from + int64(d.Time())
		seq, t = s.last, s.to
		stretches = append(stretches, s)
	}
	return stretches
}
