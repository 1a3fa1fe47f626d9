package store

import (
	"context"
	"time"

	"github.com/pim-im/pim"
)

// Bounds of a Page. One item may exceed ScanBytes.
const (
	ScanItems = 256
	ScanBytes = 1 << 20
)

// Scanner is an engine that can tell all that it holds. The contract of a Store has no such call,
// because no part of a server may need it; it is for tools that copy or compare whole stores while
// nobody writes to them.
type Scanner interface {
	Store

	// Scan returns the items of the store that follow token, a page at a time and in an order of the
	// engine's. The first token is "", and each page has the next one. A token stays good when the store
	// is opened again by the same version of pim. All pages together have every log that was written
	// to and every cell that a Get would find, once each; what is written meanwhile may be in them or
	// not. A cell that expires is left out when its lifetime is over, although the engine may still
	// have it. Errors are those of a read, and KindInvalid for a token that is none.
	Scan(ctx context.Context, token string) (Page, error)
}

// Page is a part of what a store holds: at most ScanItems items, with about ScanBytes of values. It
// may be empty and not the last one. The caller owns it.
type Page struct {
	Logs  []LogState
	Cells []LiveCell
	Next  string // the token of the next page; "": this is the last one
}

// LogState is a log without its records.
type LogState struct {
	Log   Log
	Last  pim.Seq // the seq of the last record; Front-1 if no record is left
	Fence uint64
	Front pim.Seq // the seq of the first record that was not trimmed, from 1 on
}

// LiveCell is a cell, and for how long it lives.
type LiveCell struct {
	Partition Partition
	Cell
	Left time.Duration // what is left of its lifetime, or somewhat more; 0: it does not expire
}

// Restorer is an engine into which another store can be copied, so that the copy can't be told from
// the original. Cells, and the records of logs, are written through the contract. But no write of the
// contract gives a log that has no record a front or a fence as another log has them, and a copy must
// not be taken for a store before it is complete. An engine makes a Restorer of an empty store if its
// options ask for that. Until EndRestore is done, the store can be opened in this way only.
type Restorer interface {
	Store

	// RestoreLog gives a log that nobody has written to the front and the fence of l, durably: its last
	// seq is then the one before the front. It may be repeated, also after records were appended. The
	// caller writes nothing to the log meanwhile. Errors: KindConflict if the log has another front
	// or fence, KindInvalid, and those of a write; after one of them the log may be restored or not.
	RestoreLog(ctx context.Context, l LogState) error

	// Note returns what SetNote has kept last, nil at first.
	Note(ctx context.Context) ([]byte, error)

	// SetNote keeps a note of at most MaxNoteBytes bytes of UTF-8, durably: how far the copy has come. Its
	// error is of KindConflict if another process has set a note since this one has set or read it last.
	SetNote(ctx context.Context, note []byte) error

	// EndRestore says that the copy is complete, durably. From then on the store is like any other.
	EndRestore(ctx context.Context) error
}

// MaxNoteBytes is the greatest size of a Restorer's note. Tokens of a Scan are much smaller.
const MaxNoteBytes = 64 << 10

// Check returns why no log can be as l is, as a *pim.Error of KindInvalid.
func (l *LogState) Check() error {
	if err := l.Log.Check(); err != nil {
		return err
	}
	if l.Front < 1 || l.Last+1 < l.Front {
		return pim.Errorf(pim.KindInvalid, "a log that begins at seq %d and ends at %d", l.Front, l.Last)
	}
	return nil
}

// CheckNote returns why note can't be kept, as a *pim.Error of KindInvalid.
func CheckNote(note []byte) error {
	if len(note) > MaxNoteBytes {
		return tooLarge("note", len(note), MaxNoteBytes)
	}
	return nil
}
