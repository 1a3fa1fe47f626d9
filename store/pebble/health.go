package pebble

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/pim-im/pim"
)

// health holds the troubles that keep the store from writing. Begin and a commit read one
// pointer.
type health struct {
	err atomic.Pointer[pim.Error] // of the gravest trouble; nil if there is none

	mu       sync.Mutex
	troubles [troubleEnd]*pim.Error
	gravest  trouble          // reported last; noTrouble if there is none
	report   func(*pim.Error) // called with mu held when gravest has changed
}

// trouble is a reason not to write, the gravest first. hasFailed and isCorrupt last until the
// next Open, the others end by themselves.
type trouble int

const (
	noTrouble   trouble = iota
	hasFailed           // the guard froze
	isCorrupt           // stored data is corrupt
	isFull              // too little room on the disk
	isStarving          // there is no file descriptor
	cannotFlush         // the memtable cannot be written out
	isStalled           // no commit of one of the queues ends
	troubleEnd
)

// set notes that trouble t has begun, for the reason err, or, with a nil err, that it is
// over.
func (h *health) set(t trouble, err *pim.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t <= isCorrupt && h.troubles[t] != nil {
		return // the first cause is the one that an operator must know
	}
	h.troubles[t] = err
	gravest := noTrouble
	for t, e := range h.troubles {
		if e != nil {
			gravest = trouble(t)
			break
		}
	}
	h.err.Store(h.troubles[gravest])
	if gravest != h.gravest { // its text may name another file each time
		h.gravest = gravest
		h.report(h.troubles[gravest])
	}
}

// Health implements store.Store.
func (s *Store) Health() error {
	if s.shutOff.Load() {
		return errClosed
	}
	return s.trouble()
}

// trouble returns why writes are refused, nil if they are not.
func (s *Store) trouble() error {
	if err := s.health.err.Load(); err != nil {
		return err
	}
	return nil
}

func (s *Store) reportHealth(err *pim.Error) {
	if err == nil {
		s.log.Info("store: writes are accepted again")
		return
	}
	s.log.Error("store: writes are refused", "kind", err.Kind.String(), "why", err.Text)
}

// readError returns err, the error of a read, as a *pim.Error with a kind. Corruption
// makes the store refuse writes.
func (s *Store) readError(op string, err error) error {
	s.noteCorruption(op, err)
	kind := pim.KindUnavailable
	if isCorruption(err) {
		kind = pim.KindCorrupt
	}
	return &pim.Error{Op: op, Kind: kind, Text: err.Error(), Err: err}
}

// noteCorruption makes the store refuse writes if err tells of corruption. After one bad
// block the disk cannot be trusted with more data.
func (s *Store) noteCorruption(op string, err error) {
	if isCorruption(err) {
		s.health.set(isCorrupt, &pim.Error{
			Op: op, Kind: pim.KindCorrupt, Err: err,
			Text: corruptText + err.Error(),
		})
	}
}

// corruptText precedes the text that says what is wrong with the data.
const corruptText = "stored data is corrupt; restore this node from a backup: "

func isCorruption(err error) bool {
	var malformed errMalformed
	return errors.As(err, &malformed) || crdb.IsCorruptionError(err)
}

func isNoSpace(err error) bool { return vfs.IsNoSpaceError(err) }

// diskError notes an error of a change to the disk; the guard calls it for each one. If
// fatal is set, the guard is frozen.
func (s *Store) diskError(op, name string, err error, fatal bool) {
	now, limit := time.Now(), &s.tableErrors
	if isNoSpace(err) {
		limit = &s.noSpaceErrors
		s.noSpace.Store(&now) // with its monotonic reading: the wall clock may be set
		s.health.set(isFull, s.full("the disk is full"))
	}
	if !fatal {
		if more, ok := limit.next(now); ok {
			s.log.Warn("store: a table could not be written; the next try follows", "op", op, "file", name, "err", err, "errors_before", more)
		}
		return
	}
	kind := pim.KindUnavailable
	if isNoSpace(err) {
		kind = pim.KindDiskFull
	}
	s.health.set(hasFailed, &pim.Error{
		Kind: kind, Err: err,
		Text: fmt.Sprintf("the store failed and must be opened again: %s %s: %v", op, name, err),
	})
}

func (s *Store) full(text string) *pim.Error {
	return &pim.Error{Kind: pim.KindDiskFull, Text: text, RetryAfter: 10 * time.Second}
}

// stall counts the commits of a queue, so that watch notices if none ends. Each queue has one:
// while the disk is stuck in an fsync, relaxed commits may still end.
type stall struct {
	entered, left atomic.Uint64

	// Owned by watch.
	seen  uint64    // the value of left at the last look at which it had changed
	since time.Time // the time of that look
}

func (s *stall) enter() { s.entered.Add(1) }
func (s *stall) leave() { s.left.Add(1) }

// lasting returns for how long commits have been under way while none has ended.
func (s *stall) lasting(now time.Time) time.Duration {
	left := s.left.Load()
	if left != s.seen || s.entered.Load() == left || s.since.IsZero() {
		s.seen, s.since = left, now
	}
	return now.Sub(s.since)
}

// watch looks at the disk and the commits until the store is closed.
func (s *Store) watch(interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.checkSpace()
			s.checkStall()
		}
	}
}

func (s *Store) checkStall() {
	now := time.Now()
	durable, relaxed := s.durable.stall.lasting(now), s.relaxed.stall.lasting(now)
	if max(durable, relaxed) < s.stallAfter {
		s.health.set(isStalled, nil)
		return
	}
	s.health.set(isStalled, pim.Errorf(pim.KindUnavailable, "no commit has ended for %v; the disk is stuck or far too slow", s.stallAfter))
	s.refuseWaiting(s.trouble())
}

// checkSpace refuses writes before the disk is so full that the write-ahead log
// fails, after which only a new Open helps.
func (s *Store) checkSpace() {
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		if !errors.Is(err, vfs.ErrUnsupported) && !s.spaceUnknown {
			s.spaceUnknown = true
			s.log.Warn("store: free space is not known", "dir", s.dir, "err", err)
		}
		s.hasSpace()
		return
	}
	s.metrics.free.Store(usage.AvailBytes)
	if usage.AvailBytes >= s.minFree {
		s.hasSpace()
		return
	}
	s.health.set(isFull, s.full(fmt.Sprintf("less than %d MiB are free on the disk of %s", s.minFree>>20, s.dir)))
}

// hasSpace notes that there is enough free space. The free space does not show a quota that is
// used up, nor that there are no inodes. Pebble tries every 50 ms to write a table, so as long
// as that is so, another error comes soon. The store stays full until none has come for
// fullFor.
func (s *Store) hasSpace() {
	if last := s.noSpace.Load(); last == nil || time.Since(*last) >= s.fullFor {
		s.health.set(isFull, nil)
	}
}
