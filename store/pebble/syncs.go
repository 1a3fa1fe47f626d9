package pebble

import (
	"sync"
	"time"
)

// syncs lets commits share fsyncs. A commit is written to the write-ahead log
// first, without an fsync, and then asks for one. The first to ask makes a group
// and leads it, those that ask meanwhile join it, and the leader carries out one
// fsync for all of them when the fsync of the group before has ended.
//
// The leader may wait a moment for company before, see pace. An fsync and what
// goes on around it cost as much CPU as several messages; at a thousand messages a
// second each of them would have one to itself.
type syncs struct {
	fsync func() error // makes durable what was written before it was called

	mu    sync.Mutex
	open  *syncGroup // can be joined; nil if there is none
	under *syncGroup // whose fsync is under way; nil if there is none
	pace  pace
}

// syncGroup is the commits that share one fsync.
type syncGroup struct {
	writes int           // of its commits: records of logs, but at least one each
	done   chan struct{} // closed when err is set
	err    error         // what the fsync came to
}

// share returns when what the caller has written, so many records, is durable, with
// the error of the fsync.
func (s *syncs) share(records int) error {
	writes := max(records, 1)
	s.mu.Lock()
	if g := s.open; g != nil {
		g.writes += writes
		s.mu.Unlock()
		<-g.done
		return g.err
	}
	g := &syncGroup{writes: writes, done: make(chan struct{})}
	s.open = g
	under := s.under
	wait := s.pace.wait(time.Now())
	s.mu.Unlock()

	if wait > 0 {
		time.Sleep(wait)
	}
	if under != nil {
		<-under.done
	}
	s.begin(g)
	g.err = s.fsync()
	s.end(g)
	return g.err
}

// begin closes g to others: what they write from now on may be too late for its
// fsync.
func (s *syncs) begin(g *syncGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.under = nil, g
	s.pace.began(time.Now(), g.writes)
}

func (s *syncs) end(g *syncGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.under == g {
		s.under = nil
	}
	close(g.done)
}
