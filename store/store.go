// Package store is the contract of pim's storage. Everything pim keeps is one
// of two things, a log or a cell; both are safe to retry, and both exist in
// every engine. Engines are siblings below this package, and storetest is the
// suite that each of them passes.
//
//   - A log is append-only and dense. An append names the seq it follows; it
//     takes effect only if that is the log's last.
//   - A cell is (partition, key) → (version, value). The highest version wins,
//     and of equal versions the greater value, so writes commute and repeat
//     without harm: late, doubled or reordered, they end in the same state.
//   - A cell of a passing partition may be forgotten. That is a write like any
//     other, and a list costs what it returns, whatever was forgotten before.
//
// There is no transaction over two writes, no scan over partitions, and no
// write that depends on a cell.
package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pim-im/pim"
)

// Limits of a write. One that is outside of them ends with KindInvalid.
const (
	MaxNameBytes   = 255     // of a Log or Partition; at least 1
	MaxKeyBytes    = 1 << 10 // of a cell's key; at least 1
	MaxValueBytes  = 1 << 20 // of a cell's value
	MaxRecordBytes = 1 << 20 // of a log's record

	// MaxLifetime is the longest lifetime of a cell that expires.
	MaxLifetime = 366 * 24 * time.Hour
)

// Log names a log. It may hold any bytes.
type Log string

// Partition names a group of cells that are stored and listed together. It may
// hold any bytes.
type Partition string

// PassingPrefix begins the name of a passing partition: its cells may be forgotten,
// none of them expires, and a List costs what it returns, however many cells were
// forgotten and however often each one was written. It suits a few cells that come
// and go among very many keys.
const PassingPrefix = "~"

// Passing reports whether p is a passing partition, see PassingPrefix.
func (p Partition) Passing() bool { return strings.HasPrefix(string(p), PassingPrefix) }

// Cell is one cell of a partition. Keys may hold any bytes, and order by them.
type Cell struct {
	Key     string
	Version uint64 // 0 is no version: a cell never written
	Value   []byte // may be empty
}

// CellWrite asks for a cell to have at least this version. Version 0 asks for
// nothing.
type CellWrite struct {
	Partition Partition
	Cell
	// Lifetime, if not 0, lets the engine forget the cell so long after the write,
	// or later, at its own leisure. It is from 1 ms to MaxLifetime. The engine must not
	// measure it by a wall clock that nobody watches: one that is set forward would
	// end it early. Every write of one cell must either have a lifetime or not.
	Lifetime time.Duration
	// Forget asks for the cell to be gone if its version is at most Version; it has
	// no Value, and the partition is passing. Of a forget and a value the higher
	// version wins, and of equal versions the forget. A cell that is gone is as one
	// that was never written. The engine need not remember for long what it has
	// forgotten: a write of that version or a lower one that comes much later may
	// take effect.
	Forget bool
}

// Write is an append and the cells that follow from it. The cells are written
// after the append took effect, and not at all if it did not; a crash between
// the two is possible, and the owner of the log mends it by writing the cells
// again. A cell may be seen shortly before its write is durable; a Read of the
// record that it tells of then waits for it.
type Write struct {
	Log     Log
	After   pim.Seq  // the seq that the first record follows
	Records [][]byte // at seqs After+1 …; none: the write has cells only
	Cells   []CellWrite

	// Err is the write's own outcome, set by Commit: nil, a *ConflictError, or a
	// *pim.Error. With ErrUnknown in its chain the write may have taken effect,
	// wholly or in part: read the log to know.
	Err error
}

// Durability says what Commit waits for.
type Durability bool

const (
	// Durable: Commit returns when the writes survive a crash.
	Durable Durability = true
	// Relaxed: a crash may lose the writes, the oldest last. For cells only: an
	// append ends with KindInvalid.
	Relaxed Durability = false
)

// Limit bounds a Read. Both are at least 1; one record is always returned
// whatever its size.
type Limit struct {
	Records int
	Bytes   int
}

// Store is a storage engine. All methods may be called concurrently. Errors are
// *pim.Error: KindUnavailable, KindDiskFull or KindCorrupt; or the context's.
type Store interface {
	// Commit carries out writes, each on its own, and reports each one's outcome
	// in its Err. It returns the first of them that is not a conflict. There is at
	// most one append for each log; a second one ends with KindInvalid. The caller
	// must not change what the writes refer to before Commit returns; the engine
	// keeps none of it.
	Commit(ctx context.Context, writes []*Write, d Durability) error

	// Read returns records of log from seq from on, ascending, up to seq to
	// (0: the last) or to the limit. It returns only what is durable: a record
	// once read is there for ever. The records are the caller's.
	Read(ctx context.Context, log Log, from, to pim.Seq, limit Limit) ([][]byte, error)

	// Last returns the seq of log's last durable record, 0 for an empty log.
	Last(ctx context.Context, log Log) (pim.Seq, error)

	// Get returns one cell; ok is false if it was never written, has expired or was
	// forgotten.
	Get(ctx context.Context, p Partition, key string) (c Cell, ok bool, err error)

	// List returns the cells of p with keys after after, ascending, at most
	// limit of them. Expiring cells are not listed.
	List(ctx context.Context, p Partition, after string, limit int) ([]Cell, error)

	// Close waits for what is under way, makes every relaxed write durable, and
	// ends the engine. Calls after it fail with KindUnavailable.
	Close() error
}

// ConflictError is the outcome of an append whose After is not the log's last.
type ConflictError struct {
	Log  Log
	Last pim.Seq // the log's last seq
}

// Error says what the log's last seq is.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("store: append to %s: its last seq is %d", e.Log, e.Last)
}

// ErrUnknown is in the chain of an error after which a write may or may not
// have taken effect.
var ErrUnknown = fmt.Errorf("outcome unknown")
