package storetest

import (
	"testing"

	"github.com/pim-im/pim/store"
)

// Loose returns an engine whose stores are those of e under Loose, with choices that follow from seed.
// Run then shows that e keeps the contract when writes come step by step, in any order, with other
// callers in between. No write fails, since the suite knows what each of its writes has come to. There is no
// scan and no copy: both are for stores that nobody writes to.
func (e Engine) Loose(seed uint64) Engine {
	next := func(s store.Store) store.Store {
		seed++ // each store makes other choices
		return Loose(s, seed)
	}
	loose := Engine{Open: func(t *testing.T) store.Store { return next(e.Open(t)) }}
	if e.Reopen != nil {
		loose.Reopen = func(t *testing.T, s store.Store) store.Store { return next(e.Reopen(t, s.(*Loosened).Store)) }
	}
	if e.Crash != nil {
		loose.Crash = func(t *testing.T, s store.Store) store.Store {
			crashed := s.(*Loosened)
			left := e.Crash(t, crashed.Store)
			crashed.abandon()
			return next(left)
		}
	}
	return loose
}
