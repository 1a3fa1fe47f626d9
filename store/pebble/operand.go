package pebble

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim/store"
)

// The value that Pebble holds for a cell is an operand: a uvarint with the cell's version
// and then the cell's value. Cells are written with Merge, which needs no read first.
//
// No cell has the version 0, so an operand that begins with a 0 byte means something
// else: it forgets the cell. A uvarint with the version up to which it forgets follows,
// and nothing else. Such an operand stays until its key is deleted. (A merger may tell a
// compaction to drop the merged value, but in Pebble 2.1.7 that breaks the compaction and
// can bring dropped operands back: cockroachdb/pebble#6168.)
//
// A hot cell has many operands in the memtable at a time, and a Get walks over all of
// them, at about 100 ns each. A Get would find a plain Set at once, but then concurrent
// commits would have to be ordered cell by cell, and a cell that is written late would
// hide a newer one.

func operandLen(version uint64, value []byte) int { return uvarintLen(version) + len(value) }

// putOperand fills dst, of operandLen bytes, with an operand.
func putOperand(dst []byte, version uint64, value []byte) {
	copy(dst[binary.PutUvarint(dst, version):], value)
}

func forgetLen(version uint64) int { return 1 + uvarintLen(version) }

// putForget fills dst, of forgetLen bytes, with the operand that forgets a cell.
func putForget(dst []byte, version uint64) {
	dst[0] = 0
	binary.PutUvarint(dst[1:], version)
}

const errOperand = errMalformed("cell")

// operand is a parsed operand.
type operand struct {
	version uint64 // at most store.MaxVersion, see mergerName
	value   []byte // a part of the bytes it was parsed from
	forgets bool
}

func parseOperand(data []byte) (operand, error) {
	var o operand
	if len(data) > 0 && data[0] == 0 {
		o.forgets, data = true, data[1:]
	}
	version, n := binary.Uvarint(data)
	if n <= 0 || version == 0 || o.forgets && n != len(data) {
		return operand{}, errOperand
	}
	o.version, o.value = min(version, store.MaxVersion), data[n:]
	return o, nil
}

// beats reports whether o wins over p. Of two equal operands neither wins.
func (o *operand) beats(p *operand) bool {
	switch {
	case o.version != p.version:
		return o.version > p.version
	case o.forgets != p.forgets:
		return o.forgets
	}
	return bytes.Compare(o.value, p.value) > 0
}

// mergerName is stored in the database. If the rule ever changes, the new rule needs a
// new name and a migration. Before 2026-11-29 versions were not bounded. An operand with a
// version above store.MaxVersion now counts as one with that version, and merges by its value
// with others that do. Any of the operands that are equal then may stay, so the order in
// which operands merge still does not matter, and the name is the same. A cell of such a
// version can be replaced only by a greater value of store.MaxVersion.
const mergerName = "pim.cell.v1"

// newMerger returns the rule by which cells are merged.
func newMerger() *crdb.Merger {
	pool := &sync.Pool{}
	return &crdb.Merger{
		Name: mergerName,
		Merge: func(_, data []byte) (crdb.ValueMerger, error) {
			m, _ := pool.Get().(*cellMerge)
			if m == nil {
				m = &cellMerge{pool: pool}
			}
			m.best, m.data = operand{}, m.data[:0]
			return m, m.take(data)
		},
	}
}

// cellMerge keeps the winner among the operands of one cell. The order of the operands
// does not matter.
type cellMerge struct {
	pool *sync.Pool
	best operand // its value is a part of data
	data []byte  // the winning operand's bytes
}

var _ crdb.ValueMerger = (*cellMerge)(nil)

func (m *cellMerge) take(data []byte) error {
	o, err := parseOperand(data)
	if err != nil {
		return err
	}
	if !o.beats(&m.best) {
		return nil
	}
	m.data = append(m.data[:0], data...)
	o.value = m.data[len(data)-len(o.value):]
	m.best = o
	return nil
}

// MergeNewer implements crdb.ValueMerger.
func (m *cellMerge) MergeNewer(data []byte) error { return m.take(data) }

// MergeOlder implements crdb.ValueMerger.
func (m *cellMerge) MergeOlder(data []byte) error { return m.take(data) }

// Finish returns the winning operand, which is valid until the closer is closed.
func (m *cellMerge) Finish(bool) ([]byte, io.Closer, error) { return m.data, m, nil }

// Close ends the use of Finish's result and puts m back into its pool.
func (m *cellMerge) Close() error {
	m.pool.Put(m)
	return nil
}
