// Package store is the contract of pim's storage. Everything pim keeps is one
// of two things, a log or a cell; both are safe to retry, and both exist in
// every engine. Engines are siblings below this package, and storetest is the
// suite that each of them passes.
//
//   - A log is append-only and dense. An append names the seq that it follows, and the
//     log's fence. It takes effect only if that is the log's last seq, and if the fence
//     is what the append says. Who raises a fence makes the log's writer read again what
//     the writer has read beside the log. A log may be trimmed: the records before its front
//     leave the store for good, and their seqs are not used again.
//   - A cell is (partition, key) → (version, value). The highest version wins,
//     and of equal versions the greater value, so writes commute and repeat
//     without harm: late, doubled or reordered, they end in the same state.
//   - A cell may be forgotten. To forget is a write like any other. A List of a passing
//     partition costs what it returns, however many cells were forgotten before; a cell of
//     another partition is forgotten for good.
//
// There is no transaction over two writes, no scan over partitions, and no
// write that depends on a cell.
//
// # Freshness
//
// A call sees what any call before it has told its caller, on every node: a record, a
// log's last seq, fence and front, the last seq and the fence of a conflict, and an outcome of nil. So a Read is at
// least as fresh as every Last that was returned before the Read began. A Get or List that begins
// after a write has ended without an error sees at least the write's cells, also those of a
// Relaxed write; before that it may see them or not. The cells of one Get or List are no
// snapshot.
//
// # Unknown outcomes
//
// A write that ended with ErrUnknown may take effect later, even after a Read that does not
// show it: a node of a distributed engine may pause for seconds and then go on. The append
// still takes effect only if After and Fence are the log's at that moment; a Raise and a Trim
// depend on nothing, and may be repeated. A caller that wants to know the outcome of an append
// compares the content of the log, not its last seq. The caller's next append may conflict with
// the earlier one. A caller that must be sure that such an append has
// no effect any more appends something else or raises the fence first.
//
// A conflict is final: the append has had no effect, and will have none. But if the log's front is beyond the seqs that
// an append names, an engine may have nothing left that tells whose records were trimmed. Then the append ends with
// ErrUnknown, although it will have no effect any more. So whoever trims keeps elsewhere what tells which appends were
// carried out, for as long as their callers may ask, and a caller whose append ended so looks there.
//
// # Costs
//
// An append, and a Read of a log's last seq or of records near it, cost the same however long
// the log is. A trim may cost as much as a Read of the records that leave, and other writes
// may wait for it, so a caller that trims very many does so in several writes. A log may lie in
// several places. A Read that crosses from one to the next may return fewer records than its
// Limit allows.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// MaxVersion is the greatest version of a cell, so that every engine can keep versions as
// signed numbers.
const MaxVersion = 1<<63 - 1

// Limits. A write or a call that exceeds one ends with KindInvalid.
const (
	MaxNameBytes   = 255     // of a Log or Partition; at least 1
	MaxKeyBytes    = 1 << 10 // of a cell's key; at least 1
	MaxValueBytes  = 1 << 20 // of a cell's value
	MaxRecordBytes = 1 << 20 // of a log's record

	MaxBatch = 4096 // gets or reads of one call, or erasures of one write

	// MaxAppendBytes bounds the records of one write and the rests of its erasures, together: an
	// engine on several nodes sends them in one message.
	MaxAppendBytes = 5 << 20

	// MaxLifetime is the longest lifetime of a cell that expires.
	MaxLifetime = 366 * 24 * time.Hour
)

// Log names a log. It may hold any bytes.
type Log string

// Partition names a group of cells that are stored and listed together. It may
// hold any bytes.
type Partition string

// PassingPrefix begins the name of a passing partition. The cells of such a partition
// may be forgotten, and none of them expires. A List costs what it returns, however
// many cells were forgotten and however often each one was written. A passing partition
// suits a few cells that come and go among very many keys.
const PassingPrefix = "~"

// Passing reports whether p is a passing partition, see PassingPrefix.
func (p Partition) Passing() bool { return strings.HasPrefix(string(p), PassingPrefix) }

// Cell is one cell of a partition. Keys may hold any bytes and sort bytewise.
type Cell struct {
	Key     string
	Version uint64 // from 1 to MaxVersion; 0 means that the cell was never written
	Value   []byte // may be empty
}

// CellWrite asks for a cell to have at least this version. Version 0 asks for
// nothing.
type CellWrite struct {
	Partition Partition
	Cell
	// Lifetime, if not 0, makes the cell expire: the engine may drop it once so much
	// time has passed since the write, and chooses when. It is from 1 ms to MaxLifetime.
	// The engine must not measure it by a wall clock that nobody watches, because a
	// clock that is set forward would end the lifetime early. Either all writes of a cell
	// have a lifetime or none has. Writers must give one version of such a cell always the
	// same value. Of different values either may win.
	Lifetime time.Duration
	// Forget asks for the cell to be gone if its version is at most Version. Such a
	// write has no Value. Of a forget and a value the
	// higher version wins, and of equal versions the forget. A forgotten cell looks like
	// one that was never written. The engine need not remember for long what was
	// forgotten: a write with the forgotten version or a lower one may take effect if it
	// comes much later.
	//
	// In a partition that is not passing, nothing of a forgotten cell stays in the store, apart from
	// bytes on a disk for a while. A write of at most Version that is
	// not done when the forget begins, or that begins later, may take effect or not. So a caller
	// forgets what is not needed any more, and again what a late writer may have written. With
	// MaxVersion a cell is forgotten for good. Such a forget costs a look-up. Cells with
	// a lifetime are not forgotten.
	Forget bool
	// Erase asks that the values of lower versions leave the disk, too, as the bytes of erased
	// records do. The cell does not expire, and its partition is not passing.
	Erase bool
}

// Write is an append and the cells that follow from it. The engine writes the
// cells after the append has taken effect, and not at all if it has not. A crash
// between the two is possible; the log's writer then writes the cells again. A reader
// may see a cell shortly before its write is durable, see Barrier. If the cell tells of a record,
// a Read of that record waits until the record is durable.
//
// With Erase, a write replaces records up to After. It takes effect as an append does, only if
// After and Fence are the log's, after the write's own append and before its cells. A crash in
// between is possible; the log's writer then erases again. Of records that lie in another place than
// the log's end, an engine may compare After and Fence a moment before it replaces them.
//
// With Raise, a write raises the log's fence in place of appending. The engine writes
// the cells first: whoever sees the raised fence sees the cells too. A crash between the
// two is possible. Raise depends on nothing and may be repeated.
//
// With Trim, a write trims the log in place of appending: once it has ended without an error,
// the records up to Trim are gone, and the log's front is behind them. Their bytes may stay on a
// disk for a while. The log's last seq, its fence and the appends that follow are as before,
// even if no record is left. The engine writes the cells first: whoever sees the front sees the
// cells too. A crash between the two is possible. Trim depends on nothing and may be repeated:
// the front only grows. If Trim is beyond the log's last seq, the write ends with KindInvalid,
// and nothing of it is written.
//
// Store.Begin takes a write and tells its outcome later: the engine sets Err and calls done
// with the write. Owner then tells the caller what the write belongs to.
type Write struct {
	Log     Log
	After   pim.Seq  // the seq that the first record follows
	Fence   uint64   // the log's fence: 0 until it is raised, and then greater with each Raise
	Records [][]byte // at seqs After+1 …; none: the write does not append
	Erase   []Erasure
	Raise   bool    // raise the fence of Log; then there are no Records and no Erase, and After and Fence say nothing
	Trim    pim.Seq // trim Log up to this seq; then there are no Records, no Erase and no Raise; 0: do not trim
	Cells   []CellWrite

	Owner any // the caller's; engines do not look at it

	// Err is the write's own outcome, set before done is called with it: nil, a
	// *ConflictError, a *pim.Error, or the context's error. With ErrUnknown in its chain
	// the write may have taken effect, wholly or in part, or may do so later: see the package's
	// words on unknown outcomes.
	Err error
}

// Erasure replaces the record at Seq by Rest, which should be shorter and is at least 1 byte.
// Once the write has ended without an error no Read returns the bytes that stood there; they
// may stay on a disk for a while. If the record was trimmed, nothing happens. An erasure may be
// repeated. Of several replacements of one
// record any may stay, so they should be equal.
type Erasure struct {
	Seq  pim.Seq
	Rest []byte
}

// Durability says when a write is done.
type Durability bool

const (
	// Durable: when it survives a crash.
	Durable Durability = true
	// Relaxed: a crash may lose the writes. If it loses one, it also loses every relaxed
	// write that was begun after the outcome of that one. It is for cells only; an append
	// ends with KindInvalid.
	Relaxed Durability = false
)

// Get is a cell to look up. The engine sets Cell and Err. Cell has version 0 if the cell was
// never written, has expired or was forgotten, and after an error. The caller owns its value.
type Get struct {
	Partition Partition
	Key       string
	Cell      Cell
	Err       error
}

// Read asks for records of a log, for the log's last seq, fence and front, or for both.
type Read struct {
	Log      Log
	From, To pim.Seq // To 0: the log's last seq
	Limit    Limit   // the zero Limit: no records
	WithLast bool    // asks for Last, Fence and Front

	// The engine sets the rest, after an error to zero values. Records are durable: a record
	// that was read once is there until it is trimmed. They are those from seq First on, up to To
	// at most. There may be fewer than Limit allows, but there is at least one if the log has
	// any from From to To. First is From, or the log's front if From is before that: so if First
	// is greater than From, and than 1, all records before First were trimmed. It may be beyond To.
	// The caller owns the records. An erased record is what its erasure has left of it.
	First   pim.Seq
	Records [][]byte
	Last    pim.Seq // the log's last durable seq, 0 for an empty log; no record is beyond it
	Fence   uint64  // the log's fence, which is durable
	Front   pim.Seq // the seq of the first record that was not trimmed; Last+1 if all were, and in an empty log
	Err     error
}

// Limit bounds the records of a Read. Both fields are at least 1. The first record is
// returned whatever its size.
type Limit struct {
	Records int
	Bytes   int
}

// Store is a storage engine. All methods may be called concurrently. Errors are
// *pim.Error of KindInvalid (bad arguments), KindUnavailable, KindDiskFull or
// KindCorrupt, or the context's error. A read whose context ends returns without waiting
// any longer.
type Store interface {
	// Begin carries out writes, each on its own, and calls done once for each as soon as
	// its outcome is known. No write waits for the outcome of another one. The engine may
	// gather the writes of several calls for one fsync. It should not let a write wait for a
	// slow read of another log or partition.
	//
	// Begin itself returns soon. It waits only while the engine has as much under way as
	// it can hold; if ctx ends before that is over, the writes end with the context's
	// error. A write that the engine has taken is carried out, whatever becomes of ctx.
	//
	// done is called from any goroutine, perhaps before Begin returns. It must not block
	// and must not call the store. The slice is the caller's again when Begin returns. The
	// caller must not change a write, nor what it refers to, before done is called with
	// it. After that the engine keeps no reference to it.
	Begin(ctx context.Context, writes []*Write, d Durability, done func(*Write))

	// Read reads from logs, at most MaxBatch times, in no order. It sets the results of each
	// read. One that fails does not keep the others from being carried out. Read returns the
	// first Err.
	Read(ctx context.Context, reads []Read) error

	// Get looks up cells, at most MaxBatch, in no order. It sets the Cell and the Err of each.
	// One that fails does not keep the others from being looked up. Get returns the first Err.
	Get(ctx context.Context, gets []Get) error

	// List returns the cells of p whose keys are greater than after, ascending, at most
	// limit of them. Expiring cells are not listed. The caller owns the values.
	List(ctx context.Context, p Partition, after string, limit int) ([]Cell, error)

	// Barrier returns nil when all cells that any Get or List has returned before the call survive a
	// crash, also those of Relaxed writes. It is for a caller who tells others what it has read in a
	// way that must not be taken back. It costs one fsync at most, which calls and writes share. Errors
	// are those of a read.
	Barrier(ctx context.Context) error

	// Health returns why the store accepts no writes now: a *pim.Error of KindUnavailable,
	// KindDiskFull or KindCorrupt. It returns nil if the store accepts writes, or some of
	// them. Reads may work in any case. Health waits for nothing and is cheap enough to be
	// asked before each write. A nil promises nothing: the outcome of a write decides.
	Health() error

	// Close waits for the calls that are under way, makes every relaxed write durable,
	// and ends the engine. Calls after it fail with KindUnavailable, and so does Health.
	Close() error
}

// Commit carries out writes and waits for all of them. It returns the first of their
// errors that is not a conflict.
func Commit(ctx context.Context, s Store, writes []*Write, d Durability) error {
	var running sync.WaitGroup
	running.Add(len(writes))
	s.Begin(ctx, writes, d, func(*Write) { running.Done() })
	running.Wait()
	for _, w := range writes {
		var conflict *ConflictError
		if w.Err != nil && !errors.As(w.Err, &conflict) {
			return w.Err
		}
	}
	return nil
}

// Lookup gets one cell. ok is false if the cell is not there.
func Lookup(ctx context.Context, s Store, p Partition, key string) (c Cell, ok bool, err error) {
	gets := []Get{{Partition: p, Key: key}}
	err = s.Get(ctx, gets)
	return gets[0].Cell, gets[0].Cell.Version != 0, err
}

// ReadLog reads from one log, see Read. The first record is that of from. If from was trimmed,
// ReadLog fails with KindNotFound.
func ReadLog(ctx context.Context, s Store, log Log, from, to pim.Seq, limit Limit) ([][]byte, error) {
	reads := []Read{{Log: log, From: from, To: to, Limit: limit}}
	err := s.Read(ctx, reads)
	if first := reads[0].First; err == nil && first > max(from, 1) {
		return nil, pim.Errorf(pim.KindNotFound, "the records of %q before seq %d were trimmed", log, first)
	}
	return reads[0].Records, err
}

// LogEnd returns a log's last durable seq, 0 for an empty log, and its fence.
func LogEnd(ctx context.Context, s Store, log Log) (last pim.Seq, fence uint64, err error) {
	reads := []Read{{Log: log, WithLast: true}}
	err = s.Read(ctx, reads)
	return reads[0].Last, reads[0].Fence, err
}

// ConflictError is the outcome of an append whose After is not the log's last seq, or
// whose Fence is not the log's fence. The append has had no effect, and will have none.
type ConflictError struct {
	Log   Log
	Last  pim.Seq // the log's last seq
	Fence uint64  // the log's fence
}

// Error says what the log's last seq and its fence are.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("store: append to %s: its last seq is %d, its fence %d", e.Log, e.Last, e.Fence)
}

// ErrUnknown is in the chain of a write's error if the write may or may not have taken
// effect. It may also take effect later, or its records may be trimmed already, see the package
// documentation.
var ErrUnknown = fmt.Errorf("outcome unknown")
