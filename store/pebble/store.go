package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// Store is an embedded storage engine. Open makes one.
type Store struct {
	db      *crdb.DB
	dir     string
	fs      vfs.FS // below the guard
	raw     vfs.FS // below fs
	restore bool   // Options.Restore
	guard   *guard
	slow    io.Closer // ends Pebble's supervision of slow disk operations
	log     *slog.Logger
	age     age
	logs    *logs
	buckets buckets
	passing passing
	// forgets is held while cells that are not passing are forgotten up to a version, from the look at what is
	// there until that is applied. Other commits hold it shared while they are applied.
	forgets sync.RWMutex
	streams streams
	purge   purge
	barrier barrier
	metrics metrics
	durable queue // of durable writes
	relaxed queue // of relaxed writes

	health        health
	stallAfter    time.Duration
	separateBytes int
	minFree       uint64
	spaceUnknown  bool                      // owned by watch: it was logged that free space is not known
	noSpace       atomic.Pointer[time.Time] // when the disk last had no room for a write; nil: never
	fullFor       time.Duration

	noSpaceErrors, tableErrors, backgroundErrors seldom // in the log

	gate    sync.Mutex
	closed  bool          // guarded by gate
	shutOff atomic.Bool   // closed, for Health, which takes no lock
	active  int           // calls under way; guarded by gate
	idle    chan struct{} // closed when the store is closed and no call is under way
	stop    chan struct{} // closed with the store
	workers sync.WaitGroup
	closing sync.Mutex
	ended   bool // Close has done its work; guarded by closing
}

var _ store.Store = (*Store)(nil)

// Open opens the store in dir, and makes dir if it is not there. Only one process can
// have the store open. Errors are of KindCorrupt, KindUnsupported (a later version of
// pim wrote the store), KindDiskFull or KindUnavailable.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{
		dir: dir, raw: o.FS, restore: o.Restore, log: o.Logger, age: age{mono: o.Mono}, logs: newLogs(o.cachedLogs),
		stallAfter: o.StallAfter, minFree: o.MinFreeBytes, fullFor: o.fullFor, separateBytes: o.separateBytes,
		purge: purge{every: o.PurgeEvery, bytes: o.purgeBytes}, idle: make(chan struct{}), stop: make(chan struct{}),
	}
	s.health.report = s.reportHealth
	s.passing.init()
	s.durable.init(store.Durable)
	s.relaxed.init(store.Relaxed)
	s.metrics.init()
	s.fs, s.slow = vfs.WithDiskHealthChecks(o.FS, o.SlowAfter, nil, s.diskSlow)
	s.guard = &guard{
		FS: s.fs, dir: dir, pauses: make(chan struct{}), onError: s.diskError,
		starving: starving{report: s.starves},
		onSync:   func(d time.Duration) { s.metrics.fsyncSeconds.Observe(d.Seconds()) },
	}
	if err := s.open(o); err != nil {
		s.guard.closeFiles()
		s.slow.Close()
		return nil, err
	}
	s.guard.opened.Store(true)
	s.checkSpace()
	for range committers {
		s.workers.Go(func() { s.durable.run(s.idle, s.logs.claim, s.carryOut) })
	}
	s.workers.Go(func() { s.relaxed.run(s.idle, s.logs.claim, s.carryOut) })
	s.workers.Go(func() { s.watch(o.watchInterval) })
	s.workers.Go(func() { s.sweepEvery(ageInterval) })
	s.workers.Go(func() { s.purgeWhenDue(o.watchInterval) })
	return s, nil
}

// open opens the database and fills the store's memory from it.
func (s *Store) open(o Options) error {
	db, err := crdb.Open(s.dir, pebbleOptions(o, s.guard, s.events(), pebbleLogger{s}))
	if err != nil {
		return s.openError(err)
	}
	s.db = db
	err = s.checkFormat()
	if err == nil && s.restore {
		err = s.checkRestore()
	}
	if err == nil {
		err = s.streams.init(db)
	}
	if err == nil {
		err = s.findBuckets()
	}
	if err == nil {
		err = s.readAge()
	}
	if err == nil {
		err = s.findNotes()
	}
	if err == nil {
		err = s.guard.failure()
	}
	if err == nil {
		err = s.metrics.register(o.Registerer, newWork(s))
	}
	if err == nil {
		return nil
	}
	err = s.openError(err)
	close(s.guard.pauses)
	s.db.Close()
	return err
}

func (s *Store) openError(err error) error {
	if failure := s.guard.failure(); failure != nil {
		err = failure // it caused err
	}
	var e *pim.Error
	if errors.As(err, &e) {
		return err
	}
	e = &pim.Error{Op: "open " + s.dir, Kind: pim.KindUnavailable, Text: err.Error(), Err: err}
	switch {
	case isNoSpace(err):
		e.Kind = pim.KindDiskFull
	case isCorruption(err), s.isIncomplete(err):
		e.Kind, e.Text = pim.KindCorrupt, corruptText+e.Text
	}
	return e
}

// isIncomplete reports whether the store did not open because one of its files is gone
// or has another length. Pebble reports that without calling it corruption. A directory
// that cannot be made is no incomplete store.
func (s *Store) isIncomplete(err error) bool {
	if errors.Is(err, fs.ErrNotExist) {
		_, err := s.fs.Stat(s.dir)
		return err == nil
	}
	return strings.Contains(err.Error(), "object size mismatch")
}

// formatVersion is the version of the layout that the package documentation
// describes. Stores of formatsBefore only lack what this version has, so Open
// makes them stores of formatVersion by writing the version.
const formatVersion = "4"

var formatsBefore = []string{"1", "2", "3"}

// checkFormat refuses a store of another layout, and writes formatVersion into a new
// store and into one of formatsBefore.
func (s *Store) checkFormat() error {
	key := []byte{prefixFormat}
	value, closer, err := s.db.Get(key)
	switch {
	case err == nil:
		defer closer.Close()
		if s.restore && string(value) == formatRestoring {
			return nil
		}
		if slices.Contains(formatsBefore, string(value)) {
			return s.db.Set(key, []byte(formatVersion), crdb.Sync)
		}
		return s.checkVersion(string(value))
	case errors.Is(err, crdb.ErrNotFound):
		version := formatVersion
		if s.restore {
			version = formatRestoring
		}
		if err := s.db.Set(key, []byte(version), crdb.Sync); err != nil {
			return err
		}
		// Pebble begins a new database with a write-ahead log of its oldest format, in
		// which a corrupt block looks like the end of the log. Flush begins another one.
		return s.db.Flush()
	default:
		return err
	}
}

// checkVersion refuses a store whose layout has a version that this program does not know.
func (s *Store) checkVersion(version string) error {
	if version == formatVersion || slices.Contains(formatsBefore, version) {
		return nil
	}
	if version == formatRestoring {
		return &pim.Error{
			Op: "open " + s.dir, Kind: pim.KindConflict,
			Text: "another store is being copied to here, and the copy is not complete: let the same pim migrate go on, or remove what is there",
		}
	}
	return &pim.Error{
		Op: "open " + s.dir, Kind: pim.KindUnsupported,
		Text: fmt.Sprintf("the store has layout version %q, this program knows version %s; run the version of pim that wrote it, or a later one", version, formatVersion),
	}
}

var errClosed = &pim.Error{Kind: pim.KindUnavailable, Text: "the store is closed"}

// enter lets n calls in, unless the store is closed. Each call that was let in must end
// with leave.
func (s *Store) enter(n int) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return errClosed
	}
	s.active += n
	return nil
}

// leave ends n calls.
func (s *Store) leave(n int) {
	if n == 0 {
		return
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	s.active -= n
	if s.closed && s.active == 0 {
		close(s.idle)
	}
}

// enterRead is enter for a read. checks are the results of checking its arguments.
func (s *Store) enterRead(ctx context.Context, checks ...error) error {
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	growStack()
	return s.enter(1)
}

// Close implements store.Store. If the store had failed, its last writes are lost,
// and the error says so. If a commit or a read does not end within Options.StallAfter,
// because the disk is stuck, Close gives up with an error and leaves the database open;
// the caller may then call it again. Acknowledged writes are safe in either case.
func (s *Store) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.ended {
		return errClosed
	}
	s.shut()
	patience := time.NewTimer(s.stallAfter)
	defer patience.Stop()
	select {
	case <-s.idle:
	case <-patience.C:
		return &pim.Error{
			Op: "close", Kind: pim.KindUnavailable,
			Text: fmt.Sprintf("something under way has not ended for %v; the store is left as it is", s.stallAfter),
		}
	}
	s.ended = true
	s.workers.Wait()
	s.noteEnd()
	err := s.db.Close()
	s.guard.closeFiles()
	s.slow.Close()
	if failure := s.guard.failure(); failure != nil {
		return &pim.Error{Op: "close", Kind: pim.KindUnavailable, Text: "the store had failed: " + failure.Error(), Err: failure}
	}
	if err != nil {
		return &pim.Error{Op: "close", Kind: pim.KindUnavailable, Text: err.Error(), Err: err}
	}
	return nil
}

// shut makes enter refuse further calls and tells the workers to stop.
func (s *Store) shut() {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.shutOff.Store(true)
	if s.active == 0 {
		close(s.idle)
	}
	s.metrics.unregister()
	close(s.stop)
	close(s.guard.pauses)
}
