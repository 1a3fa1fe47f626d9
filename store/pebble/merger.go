package pebble

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	crdb "github.com/cockroachdb/pebble/v2"
)

// A cell's value in Pebble, an operand, is a uvarint with the version and then
// the value. Cells are written with Merge, which needs no read before it.
//
// Many operands of a hot cell lie in the memtable at a time, and a Get walks
// over all of them: about 100 ns each. Plain Sets would be found at once, but
// concurrent commits would have to be ordered cell by cell, and a cell that is
// written late would hide a newer one.

func operandLen(version uint64, value []byte) int { return uvarintLen(version) + len(value) }

// putOperand fills dst, of operandLen bytes.
func putOperand(dst []byte, version uint64, value []byte) {
	copy(dst[binary.PutUvarint(dst, version):], value)
}

const errOperand = errMalformed("cell")

// parseOperand returns the parts of an operand; value is a part of data.
func parseOperand(data []byte) (version uint64, value []byte, err error) {
	version, n := binary.Uvarint(data)
	if n <= 0 || version == 0 {
		return 0, nil, errOperand
	}
	return version, data[n:], nil
}

// mergerName is stored in the database. Should the rule ever change, the new
// one needs a new name and a migration.
const mergerName = "pim.cell.v1"

// newMerger returns the rule by which cells are merged.
func newMerger() *crdb.Merger {
	pool := &sync.Pool{}
	return &crdb.Merger{
		Name: mergerName,
		Merge: func(_, operand []byte) (crdb.ValueMerger, error) {
			m, _ := pool.Get().(*cellMerge)
			if m == nil {
				m = &cellMerge{pool: pool}
			}
			m.version, m.data = 0, m.data[:0]
			return m, m.take(operand)
		},
	}
}

// cellMerge keeps the winner among the operands of one cell. The order in which
// they come does not matter.
type cellMerge struct {
	pool    *sync.Pool
	version uint64
	data    []byte // the winning operand
	value   int    // where its value begins
}

var _ crdb.ValueMerger = (*cellMerge)(nil)

func (m *cellMerge) take(operand []byte) error {
	version, value, err := parseOperand(operand)
	if err != nil {
		return err
	}
	if version < m.version || version == m.version && bytes.Compare(value, m.data[m.value:]) <= 0 {
		return nil
	}
	m.version = version
	m.data = append(m.data[:0], operand...)
	m.value = len(operand) - len(value)
	return nil
}

// MergeNewer takes in an operand.
func (m *cellMerge) MergeNewer(operand []byte) error { return m.take(operand) }

// MergeOlder takes in an operand.
func (m *cellMerge) MergeOlder(operand []byte) error { return m.take(operand) }

// Finish returns the winner, which is valid until the closer is closed.
func (m *cellMerge) Finish(bool) ([]byte, io.Closer, error) { return m.data, m, nil }

// Close takes the result of Finish back.
func (m *cellMerge) Close() error {
	m.pool.Put(m)
	return nil
}
