package gateway

import (
	"sync"
	"sync/atomic"
	"time"
)

// wheel holds the connections by the time of their next look, so that no look is without a
// reason. A connection is in it at most once. Reading and writing do not move a connection
// in it: the look finds out what has happened since, and says when the next look is due.
// Only a limit that begins, and ends before the next look, moves the look; see conn.lookBy.
//
// The locks of its shards are taken last: whoever holds one takes no other.
type wheel struct {
	shards [wheelShards]wheelShard
	looks  atomic.Uint64 // how many looks there were; for tests
}

const (
	wheelShards = 16
	wheelSlots  = 128
	// lookTick is the time between two slots, and between two rounds of the janitor. So a
	// look is late by twice that at most.
	lookTick = 500 * time.Millisecond
	// lookAhead is how far ahead a look is planned at most. The slots reach a little
	// further.
	lookAhead = 60 * time.Second

	tickMS = int64(lookTick / time.Millisecond)
)

type wheelShard struct {
	mu    sync.Mutex
	done  int64 // the last tick whose connections were handed out
	slots [wheelSlots]*conn
	ready *conn // the list of those that are handed out now
}

// spot is a connection's place in the wheel: in the list of a slot, or in none. It is
// guarded by the mu of the connection's shard, but due may be read without it.
type spot struct {
	next *conn
	at   **conn       // what points to this connection: the slot, or another's next; nil: in no list
	due  atomic.Int64 // when the look is due, in ms as of Gateway.elapsed, or one of the two below
}

// Values of spot.due that are no time.
const (
	dueUnknown = 0  // the connection is being looked at, or was never put
	dueNever   = -1 // the connection is gone
)

func (w *wheel) shard(c *conn) *wheelShard { return &w.shards[c.id%wheelShards] }

// put plans the next look at c for the time at, or earlier if sooner asked for that since
// the last look.
func (w *wheel) put(c *conn, at int64) {
	s := w.shard(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	due := c.spot.due.Load()
	if due == dueNever {
		return
	}
	if due != dueUnknown {
		at = min(at, due)
	}
	s.link(c, at)
}

// sooner plans a look at c for the time at, unless one is due before.
func (w *wheel) sooner(c *conn, at int64) {
	s := w.shard(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch due := c.spot.due.Load(); {
	case due != dueUnknown && due < at+tickMS:
	case c.spot.at != nil:
		c.unlink()
		s.link(c, at)
	default:
		c.spot.due.Store(at) // c is not in the wheel now: put will see it
	}
}

// remove takes c out for good.
func (w *wheel) remove(c *conn) {
	s := w.shard(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	c.unlink()
	c.spot.due.Store(dueNever)
}

// tick takes the connections that are due at the time now out of the wheel, and calls look
// with one after the other. look may put its connection back.
func (w *wheel) tick(now int64, look func(*conn)) {
	for i := range w.shards {
		s := &w.shards[i]
		for s.advance(now / tickMS) {
			for c := s.take(); c != nil; c = s.take() {
				w.looks.Add(1)
				look(c)
			}
		}
	}
}

// advance makes the connections of the next slot ready. It reports false if the slots up
// to the tick now are done.
func (s *wheelShard) advance(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done >= now {
		return false
	}
	s.done = max(s.done+1, now-wheelSlots+1) // far behind: every slot once
	slot := &s.slots[s.done%wheelSlots]
	if s.ready = *slot; s.ready != nil {
		s.ready.spot.at = &s.ready
		*slot = nil
	}
	return true
}

// take takes one connection out of those that are ready; nil if there is none.
func (s *wheelShard) take() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.ready
	if c != nil {
		c.unlink()
		c.spot.due.Store(dueUnknown)
	}
	return c
}

// link puts c into the slot of the time at; s.mu is held, as for unlink.
func (s *wheelShard) link(c *conn, at int64) {
	tick := min(max((at+tickMS-1)/tickMS, s.done+1), s.done+wheelSlots-1)
	slot := &s.slots[tick%wheelSlots]
	c.spot.next, c.spot.at = *slot, slot
	if *slot != nil {
		(*slot).spot.at = &c.spot.next
	}
	*slot = c
	c.spot.due.Store(tick * tickMS)
}

func (c *conn) unlink() {
	if c.spot.at == nil {
		return
	}
	*c.spot.at = c.spot.next
	if c.spot.next != nil {
		c.spot.next.spot.at = c.spot.at
	}
	c.spot.next, c.spot.at = nil, nil
}

// lookBy makes the janitor look at c at the time at or before. Mostly a look is due before
// anyway, and then this costs one atomic load.
func (c *conn) lookBy(at int64) {
	if due := c.spot.due.Load(); due != dueUnknown && due < at+tickMS {
		return
	}
	c.gw.wheel.sooner(c, at)
}
