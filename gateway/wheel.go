package gateway

import (
	"sync"
	"sync/atomic"
	"time"
)

// wheel holds the connections by when each is to be looked at next, so that no look
// is without a reason. A connection stands in it once. That it reads or writes moves
// nothing: the look finds out what has happened since, and says when the next is due.
// Only a limit that begins, and ends before that, moves the look; see conn.lookBy.
//
// Its locks are taken last: whoever holds one takes no other.
type wheel struct {
	shards [wheelShards]wheelShard
	looks  atomic.Uint64 // how many there were
}

const (
	wheelShards = 16
	wheelSlots  = 128
	// lookTick is how precise the wheel is. The janitor comes as often, and so a look
	// is late by twice that at the most.
	lookTick = 500 * time.Millisecond
	// lookAhead is how far ahead a look is at the most. The slots reach a little
	// further.
	lookAhead = 60 * time.Second

	tickMS = int64(lookTick / time.Millisecond)
)

type wheelShard struct {
	mu    sync.Mutex
	done  int64 // the last tick whose connections were handed out
	slots [wheelSlots]*conn
	ready *conn // those that are handed out now
}

// spot is a connection's place in the wheel: in the list of a slot, or in none.
type spot struct {
	next *conn
	at   **conn       // what points to this connection: the slot, or another's next; nil: in no list
	due  atomic.Int64 // the tick of the look, in the milliseconds of Gateway.elapsed; see also below
}

// Instead of a time a spot's due may be one of these.
const (
	dueUnknown = 0  // it is being looked at, or was not yet
	dueNever   = -1 // the connection is gone
)

func (w *wheel) shard(c *conn) *wheelShard { return &w.shards[c.id%wheelShards] }

// put has c looked at at the time at, or earlier if sooner has said so since the last
// look.
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

// sooner has c looked at at the time at, if it is not to be before.
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
		c.spot.due.Store(at) // for put
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

// turn hands out, one after the other, all that are due at the time now. look puts
// each back, or does not.
func (w *wheel) turn(now int64, look func(*conn)) {
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

// advance makes the connections of the next slot ready, and reports whether there was
// a slot before the tick now is done.
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

// lookBy has the janitor look at c at the time at. Mostly it will before, and then
// this costs a load.
func (c *conn) lookBy(at int64) {
	if due := c.spot.due.Load(); due != dueUnknown && due < at+tickMS {
		return
	}
	c.gw.wheel.sooner(c, at)
}
