// Package storetest is the conformance suite of store.Store. Every engine passes it.
// The package also has two engines for tests: Memory implements the contract in as few
// lines as possible, and Loose behaves as badly as a distributed engine may.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
	"pgregory.net/rapid"
)

// Engine is what Run needs of an engine.
type Engine struct {
	// Open returns an empty store. Run calls it once for each test, and closes the store.
	Open func(t *testing.T) store.Store
	// Reopen returns the store that s was; Run has closed s. It is nil if the engine keeps
	// nothing over a Close.
	Reopen func(t *testing.T, s store.Store) store.Store
	// Crash returns what is left of s after a crash at this moment, which loses all that may be
	// lost. Run has not closed s, and does not use it any more. It is nil if the engine can't be made to crash.
	Crash func(t *testing.T, s store.Store) store.Store
	// Restore opens an empty store as a store.Restorer. It is nil if no other store can be copied to the
	// engine.
	Restore func(t *testing.T) store.Store
}

// Run runs the suite. The suite relies only on the contract: an engine needs no transactions,
// no scan over partitions and no quick expiry.
func Run(t *testing.T, e Engine) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"append is dense", (*suite).appendIsDense},
		{"append conflicts", (*suite).appendConflicts},
		{"one of many appenders wins", (*suite).oneAppenderWins},
		{"many logs in one commit", (*suite).manyLogs},
		{"a log twice in one commit", (*suite).logTwice},
		{"each write has one outcome", (*suite).outcomes},
		{"records are erased", (*suite).erases},
		{"erasures are conditional", (*suite).erasuresAreConditional},
		{"bad erasures", (*suite).badErasures},
		{"logs are trimmed", (*suite).trims},
		{"trims beyond the last seq", (*suite).trimsOfNothing},
		{"bad trims", (*suite).badTrims},
		{"a front is as fresh as what was told of it", (*suite).trimsAreFresh},
		{"trims beside appends", (*suite).trimsRace},
		{"conflicts are final", (*suite).conflictsAreFinal},
		{"a failed append writes no cells", (*suite).failedAppendNoCells},
		{"a raised fence", (*suite).fences},
		{"no append passes a raised fence", (*suite).fencesHold},
		{"cells without an append", (*suite).cellsOnly},
		{"a log is as fresh as what was told of it", (*suite).logIsFresh},
		{"read limits", (*suite).readLimits},
		{"read edges", (*suite).readEdges},
		{"a read tells the log's last seq", (*suite).readsLast},
		{"records and the last seq agree", (*suite).recordsAndLastAgree},
		{"a long log", (*suite).longLog},
		{"many reads in one call", (*suite).readMany},
		{"a read fails alone", (*suite).readsFailAlone},
		{"reads that fail together", (*suite).readsAsOne},
		{"big records", (*suite).bigRecords},
		{"records are copies", (*suite).copies},
		{"the highest version wins", (*suite).highestVersion},
		{"of equal versions the greater value wins", (*suite).equalVersions},
		{"cells commute", (*suite).cellsCommute},
		{"cells are as fresh as their outcomes", (*suite).cellsAreFresh},
		{"list pages in order", (*suite).listPages},
		{"partitions are apart", (*suite).partitionsApart},
		{"logs are apart", (*suite).logsApart},
		{"cells that pass, without an append", asPassing((*suite).cellsOnly)},
		{"of cells that pass the highest version wins", asPassing((*suite).highestVersion)},
		{"of equal versions that pass the greater value wins", asPassing((*suite).equalVersions)},
		{"cells that pass commute", asPassing((*suite).cellsCommute)},
		{"cells that pass are as fresh as their outcomes", asPassing((*suite).cellsAreFresh)},
		{"list pages of cells that pass in order", asPassing((*suite).listPages)},
		{"passing partitions are apart", asPassing((*suite).passingApart)},
		{"cells are forgotten", (*suite).forgets},
		{"cells are forgotten for good", (*suite).forgetsForGood},
		{"cells are forgotten up to a version", (*suite).forgetsOlder},
		{"forgets take nothing that is newer", (*suite).forgetsRace},
		{"forgets commute", (*suite).forgetsCommute},
		{"lists pass what was forgotten", (*suite).listsPassForgotten},
		{"bad forgets", (*suite).badForgets},
		{"cells do not expire early", (*suite).expiry},
		{"many gets in one call", (*suite).getMany},
		{"a get fails alone", (*suite).getsFailAlone},
		{"gets that fail together", (*suite).getsAsOne},
		{"bad sizes", (*suite).badSizes},
		{"large writes", (*suite).largeWrites},
		{"a store is opened again", (*suite).opensAgain},
		{"what a barrier has passed survives", (*suite).barriers},
		{"a scan tells all", (*suite).scans},
		{"a scan goes on", (*suite).scansGoOn},
		{"logs are restored", (*suite).restores},
		{"a cancelled context", (*suite).cancelled},
		{"health", (*suite).health},
		{"close", (*suite).close},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{TB: t, ctx: context.Background(), store: e.Open(t)}
			if e.Reopen != nil {
				s.reopen = func() store.Store { return e.Reopen(t, s.store) }
			}
			if e.Restore != nil {
				s.restore = func() store.Store { return e.Restore(t) }
			}
			if e.Crash != nil {
				s.crash = func() store.Store { return e.Crash(t, s.store) }
			}
			defer s.end()
			test.run(s)
		})
	}
}

type suite struct {
	rapid.TB
	ctx   context.Context
	store store.Store
	ended bool
	begun int // calls of begins

	reopen func() store.Store // nil if the engine keeps nothing over a Close
	crash  func() store.Store // nil if the engine cannot be made to crash

	restore func() store.Store // nil if no other store can be copied to the engine
}

func (s *suite) end() {
	if !s.ended {
		s.ended = true
		if err := s.store.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
	}
}

// commits commits writes that must succeed.
func (s *suite) commits(writes ...*store.Write) {
	s.Helper()
	if err := store.Commit(s.ctx, s.store, writes, store.Durable); err != nil {
		s.Fatalf("commit: %v", err)
	}
	for _, w := range writes {
		if w.Err != nil {
			s.Fatalf("append to %q after %d: %v", w.Log, w.After, w.Err)
		}
	}
}

// conflicts commits a write that must end in a conflict with last as the log's last seq.
func (s *suite) conflicts(w *store.Write, last pim.Seq) {
	s.Helper()
	if err := store.Commit(s.ctx, s.store, []*store.Write{w}, store.Durable); err != nil {
		s.Fatalf("commit of a conflict: %v; a conflict is not an error of the commit", err)
	}
	var conflict *store.ConflictError
	if !errors.As(w.Err, &conflict) {
		s.Fatalf("append to %q after %d: %v, want a conflict", w.Log, w.After, w.Err)
	}
	if conflict.Log != w.Log || conflict.Last != last {
		s.Fatalf("append to %q after %d: conflict says %q ends at %d, want %d", w.Log, w.After, conflict.Log, conflict.Last, last)
	}
}

// invalid commits a write that must end with KindInvalid.
func (s *suite) invalid(what string, w *store.Write, d store.Durability) {
	s.Helper()
	err := store.Commit(s.ctx, s.store, []*store.Write{w}, d)
	if pim.KindOf(err) != pim.KindInvalid || pim.KindOf(w.Err) != pim.KindInvalid {
		s.Errorf("%s: commit %v, write %v, want KindInvalid", what, err, w.Err)
	}
	if errors.Is(err, store.ErrUnknown) {
		s.Errorf("%s: %v says that the outcome is unknown", what, err)
	}
}

// ends checks a log's last seq.
func (s *suite) ends(log store.Log, want pim.Seq) {
	s.Helper()
	got, _, err := store.LogEnd(s.ctx, s.store, log)
	if err != nil || got != want {
		s.Fatalf("last of %q: %d, %v; want %d", log, got, err, want)
	}
}

// fence returns a log's fence. The log must end at last.
func (s *suite) fence(log store.Log, last pim.Seq) uint64 {
	s.Helper()
	got, fence, err := store.LogEnd(s.ctx, s.store, log)
	if err != nil || got != last {
		s.Fatalf("last of %q: %d, %v; want %d", log, got, err, last)
	}
	return fence
}

// follow returns the records from..to of a log, by as many reads as it takes.
func (s *suite) follow(log store.Log, from, to pim.Seq) (records [][]byte) {
	s.Helper()
	for {
		some, err := store.ReadLog(s.ctx, s.store, log, from, to, much)
		if err != nil {
			s.Fatalf("read of %q from %d to %d: %v", log, from, to, err)
		}
		if len(some) == 0 {
			return records
		}
		records = append(records, some...)
		from = max(from, 1) + pim.Seq(len(some))
	}
}

// reads checks what reads return. If there is a limit, one read returns at most want, which is
// what fits, and at least one record of it.
func (s *suite) reads(log store.Log, from, to pim.Seq, limit store.Limit, want ...[]byte) {
	s.Helper()
	var got [][]byte
	if limit == much {
		got = s.follow(log, from, to)
	} else {
		var err error
		if got, err = store.ReadLog(s.ctx, s.store, log, from, to, limit); err != nil {
			s.Fatalf("read of %q from %d to %d: %v", log, from, to, err)
		}
		want = want[:max(min(len(got), len(want)), min(1, len(want)))]
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		s.Fatalf("read of %q from %d to %d, limit %v: %s, want %s", log, from, to, limit, brief(got), brief(want))
	}
}

// holds checks that a cell has the version and the value. Version 0 means that the cell must
// not exist.
func (s *suite) holds(p store.Partition, key string, version uint64, value string) {
	s.Helper()
	c, ok, err := store.Lookup(s.ctx, s.store, p, key)
	switch {
	case err != nil:
		s.Fatalf("get %q %q: %v", p, key, err)
	case ok != (version != 0):
		s.Fatalf("get %q %q: found %v, want %v", p, key, ok, version != 0)
	case !ok && (c.Key != "" || c.Version != 0 || c.Value != nil):
		s.Fatalf("get %q %q: not found, and yet %+v", p, key, c)
	case ok && (c.Key != key || c.Version != version || string(c.Value) != value):
		s.Fatalf("get %q %q: %q version %d value %q, want version %d value %q", p, key, c.Key, c.Version, c.Value, version, value)
	}
}

// lists checks a page of a partition. want holds the page's cells as key=version.
func (s *suite) lists(p store.Partition, after string, limit int, want ...string) {
	s.Helper()
	cells, err := s.store.List(s.ctx, p, after, limit)
	if err != nil {
		s.Fatalf("list %q after %q: %v", p, after, err)
	}
	var got []string
	for _, c := range cells {
		got = append(got, fmt.Sprintf("%s=%d", c.Key, c.Version))
	}
	if !slices.Equal(got, want) {
		s.Fatalf("list %q after %q, limit %d: %q, want %q", p, after, limit, got, want)
	}
}

func appendTo(log store.Log, after pim.Seq, records ...string) *store.Write {
	w := &store.Write{Log: log, After: after}
	for _, r := range records {
		w.Records = append(w.Records, []byte(r))
	}
	return w
}

func (s *suite) cells(cells ...store.CellWrite) {
	s.Helper()
	s.commits(&store.Write{Cells: cells})
}

func cell(p store.Partition, key string, version uint64, value string) store.CellWrite {
	return store.CellWrite{Partition: p, Cell: store.Cell{Key: key, Version: version, Value: []byte(value)}}
}

func numbered(from, to int) []string {
	var r []string
	for i := from; i <= to; i++ {
		r = append(r, fmt.Sprintf("record %d", i))
	}
	return r
}

func asBytes(records []string) [][]byte {
	var b [][]byte
	for _, r := range records {
		b = append(b, []byte(r))
	}
	return b
}

func brief(records [][]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d records", len(records))
	for i, r := range records {
		if i == 8 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %.20q", r)
	}
	return b.String()
}

// much is a limit that no test of the suite reaches.
var much = store.Limit{Records: 1 << 20, Bytes: 1 << 30}
