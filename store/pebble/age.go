package pebble

import (
	"time"

	crdb "github.com/cockroachdb/pebble/v2"
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/store"
)

// age is a store's age, the time by which its cells expire: about how long the store
// has been open, in all. It goes by the monotonic clock, so a wall clock that was set
// wrong, now or before the start, ends no cell early. While the store is closed its
// age stands still, and cells live longer.
//
// A new store takes the wall clock's time as its age. Any number would do, but versions
// of pim before 2026-11-28 expired cells by the wall clock. If such a version opens the
// store again, it finds the cells about where it would have put them.
type age struct {
	mono   func() time.Duration
	begun  time.Duration // mono at Open
	before pim.Millis    // the age at Open
}

// now returns the age.
func (a *age) now() pim.Millis {
	return a.before + pim.Millis((a.mono()-a.begun)/time.Millisecond)
}

var ageKey = []byte{prefixAge}

// readAge reads the age that was noted last. A store of a version that noted no age is
// taken to be as old as the beginning of its oldest bucket, so each of its cells lives
// at least until the end of another week.
func (s *Store) readAge() error {
	s.age.begun = s.age.mono()
	var noted store.Cell
	if err := s.getAt(ageKey, &noted); err != nil {
		return err
	}
	if noted.Version != 0 {
		s.age.before = pim.Millis(noted.Version)
		return nil
	}
	if oldest := s.buckets.live(0); len(oldest) > 0 {
		s.age.before = max(pim.Millis(oldest[0])*weekMillis, 1) // an age is a version, and no version is 0
	} else {
		s.age.before = max(pim.MillisOf(time.Now()), 1)
	}
	return nil // sweepEvery notes the age; a write here would not let a store open on a full disk
}

// noteAge stores the age. If a crash loses the note, cells live longer.
func (s *Store) noteAge() error {
	version := uint64(s.age.now())
	operand := make([]byte, operandLen(version, nil))
	putOperand(operand, version, nil)
	return s.db.Merge(ageKey, operand, crdb.NoSync)
}

// noteEnd notes the age of a store that is being closed, so that a store that is never
// open for long gets older too.
func (s *Store) noteEnd() {
	if s.trouble() != nil {
		return
	}
	if err := s.noteAge(); err != nil {
		s.log.Warn("store: its age was not noted; what expires lives longer", "err", err)
	}
}
