package limit

import (
	"hash/maphash"
	"time"

	"github.com/pim-im/pim"
)

const (
	// budgetBurst is how many seconds' worth of a connection's frames, and of its bytes, may come at
	// once: what a device sends that was away for long.
	budgetBurst = 10
	// Insists is for how long a connection may stay over its budget. It is read more slowly
	// meanwhile, and closed then.
	Insists = time.Minute
)

// Sent is what one connection has sent of its budget. The zero value has sent nothing.
type Sent struct {
	frames, bytes time.Duration // when the bursts are whole again
	since         time.Duration // since when it has been over its budget and has not come well below it; 0: it is not
}

// Whole reports whether nothing is left of what s has sent at the time now: s may be forgotten.
func (s *Sent) Whole(now time.Duration) bool { return s.frames <= now && s.bytes <= now }

// A Slowdown says how a connection is to be read that is over its budget. The zero Slowdown is for
// one that is not.
type Slowdown struct {
	Reason Reason        // ConnectionFrames or ConnectionBytes; None: read on at once
	Pause  time.Duration // read nothing for so long; positive unless Reason is None
	// Insists says that the connection has been over its budget for longer than Insists, and is to be
	// closed. The client is to come back after Pause, spread over as much again.
	Insists bool
}

// BoundsSends reports whether connections have a budget at all. If not, Sends need not be called.
func (g *Gate) BoundsSends() bool { return g.frames.cells != nil || g.bytes.cells != nil }

// Sends charges the budget of a connection of a device of a user, of which s is the state, for
// what it has sent. Rates of 0 charge nothing.
//
// A device that comes back goes on where its last connection was, see Returns: else a client could be
// free of its budget by connecting anew.
func (g *Gate) Sends(s *Sent, now time.Duration, user pim.UserID, device pim.DeviceID, frames, bytes int) Slowdown {
	f, b := &g.frames.pace, &g.bytes.pace
	framesBefore, bytesBefore := f.used(s.frames, now), b.used(s.bytes, now)
	s.frames, s.bytes = f.nextOf(s.frames, now, frames), b.nextOf(s.bytes, now, bytes)
	framesUsed, bytesUsed := f.used(s.frames, now), b.used(s.bytes, now)
	slow := Slowdown{Reason: ConnectionFrames, Pause: f.over(s.frames, now)}
	if p := b.over(s.bytes, now); p > slow.Pause {
		slow = Slowdown{Reason: ConnectionBytes, Pause: p}
	}
	if framesUsed != framesBefore || bytesUsed != bytesBefore || slow.Pause > 0 { // an honest client's reads seldom come to that: they need no lock
		g.keep(s, user, device)
	}
	switch {
	case slow.Pause == 0:
		if slow.Reason = None; max(framesUsed, bytesUsed) <= parts/2 {
			s.since = 0
		}
	case s.since == 0:
		s.since = max(now, 1)
	case now-s.since > Insists:
		slow.Insists = true
		slow.Pause += budgetBurst * time.Second
	}
	return slow
}

// Returns returns the state of the budget of a device's new connection.
func (g *Gate) Returns(user pim.UserID, device pim.DeviceID) (s Sent) {
	d := g.device(user, device)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.frames.cells != nil {
		s.frames = g.frames.state(d)
	}
	if g.bytes.cells != nil {
		s.bytes = g.bytes.state(d)
	}
	return s
}

// keep notes what a device has sent, for its next connection.
func (g *Gate) keep(s *Sent, user pim.UserID, device pim.DeviceID) {
	d := g.device(user, device)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frames.raise(d, s.frames)
	g.bytes.raise(d, s.bytes)
}

func (g *Gate) device(user pim.UserID, device pim.DeviceID) uint64 {
	return maphash.Comparable(g.seed, struct {
		pim.UserID
		pim.DeviceID
	}{user, device})
}

// parts is into how many parts a burst is divided to see how much of it is used. A device whose use
// goes from one part to another is kept in mind, so what it has sent is known up to one part.
const parts = 8

// used returns how many parts of the burst are used up.
func (p pace) used(whole, now time.Duration) int64 {
	if p.every == 0 {
		return 0
	}
	return int64(max(whole-now, 0) / (p.burst / parts))
}

// over returns how long it takes from now until no more than the burst is used up.
func (p pace) over(whole, now time.Duration) time.Duration {
	if p.every == 0 {
		return 0
	}
	return max(whole-now-p.burst, 0)
}
