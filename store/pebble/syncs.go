package pebble

import (
	"sync"
	"time"
)

// syncs lets commits share fsyncs. A commit first writes to the write-ahead log without
// an fsync, and then asks for one. The first commit to ask makes a syncGroup and leads
// it. Commits that ask meanwhile join it. When the fsync of the syncGroup before has
// ended, the leader carries out one fsync for all of them.
//
// The leader may first wait a moment for company, see pace. An fsync and the work around
// it cost as much CPU as several messages. Without the wait, at a thousand messages a
// second each message would have an fsync to itself.
type syncs struct {
	fsync func() error // makes durable what was written before it was called

	mu    sync.Mutex
	open  *syncGroup // which commits can join; nil if there is none
	under *syncGroup // whose fsync is under way; nil if there is none
	pace  pace
}

// syncGroup is the commits that share one fsync.
type syncGroup struct {
	writes int           // records that its commits append, and at least one for each commit
	done   chan struct{} // closed when err is set
	err    error         // of the fsync; set by the leader
}

// share returns when the caller's commit, which appends so many records, is durable. It
// returns the error of the fsync. The caller has written its commit to the write-ahead
// log.
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

// begin closes g to other commits, because what they write from now on may be too late
// for g's fsync.
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
