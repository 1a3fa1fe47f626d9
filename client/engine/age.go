package engine

import (
	"cmp"
	"time"

	"github.com/pim-im/pim"
)

const (
	// giveUpAfter is how long after its first transmission, by whichever process, a
	// message fails. It is the window of the display order (pim.OrderWindow): a message
	// that is resent later would stand in a wrong place.
	giveUpAfter = 180 * time.Second
	// expireAfter is how long after it was queued a create, join, leave or command fails.
	expireAfter = 7 * 24 * time.Hour
	// forgetMargin is how long before the end of pim.DedupWindow the server counts as
	// having forgotten a message: sent again, the message could be in the log twice.
	forgetMargin = time.Hour
)

// times are what the clocks show.
type times struct {
	wall   pim.Millis // the device's wall clock
	server pim.Millis // the server's time, as well as it is known
	known  bool       // the server's time is known
}

// times returns what the clocks show at now.
func (c *clock) times(now Time) times { return times{now.Wall, c.at(now), c.known} }

// since returns how long ago something was, in milliseconds. It was at then by the
// server's time, and at wall by this device's wall clock; wall is 0 if an earlier process
// saw it. The clock that has gone on by less counts: neither a server whose clock is a
// year ahead for a minute, nor a person who sets the device's clock, makes anything old.
// After a sleep of the device both clocks have gone on.
func (t times) since(then, wall pim.Millis) pim.Millis {
	age := t.server - then
	if wall != 0 {
		age = min(age, t.wall-wall)
	}
	return age
}

// tooOld says why m must not be transmitted any more, nil if it may. If backup is set,
// the store may be a backup that was made while m was queued.
func (m *message) tooOld(t times, backup bool) *pim.Error {
	queued := t.since(m.Queued, m.queuedWall)
	switch {
	case !t.known:
	case m.patient() && queued >= millis(expireAfter):
		return pim.Errorf(pim.KindTimeout, "it could not be sent within %d days", expireAfter/(24*time.Hour))
	case backup && m.state == Queued && queued >= millis(pim.DedupWindow-forgetMargin):
		// m may have been transmitted after the backup was made.
		return pim.Errorf(pim.KindTimeout, "it may have been sent before the storage was lost")
	}
	if err := m.forgotten(t); err != nil {
		return err
	}
	if m.attempt == 0 && !m.patient() && !m.Again && m.spent(t) == giveUpAfter {
		return pim.Errorf(pim.KindTimeout, "no answer came within %v of its transmission, which was %v ago",
			giveUpAfter, (time.Duration(t.server-m.Local) * time.Millisecond).Round(time.Second))
	}
	return nil
}

// spent returns how much of giveUpAfter has passed since an earlier process
// transmitted m for the first time; 0 if none has, or while the server's time is not
// known.
func (m *message) spent(t times) time.Duration {
	if m.Local == 0 || !t.known {
		return 0
	}
	age := max(0, t.server-m.Local)
	if age >= millis(giveUpAfter) {
		return giveUpAfter
	}
	return time.Duration(age) * time.Millisecond
}

// forgotten returns an error if m was transmitted so long ago that the server may have
// forgotten it: sent again, m could be in the log twice. It returns nil while the
// server's time is not known; tooOld looks again before m is transmitted.
func (m *message) forgotten(t times) *pim.Error {
	first, wall := cmp.Or(m.First, m.Local), m.firstWall
	if m.Again {
		// The server has lost m, so what counts is when m was queued again. And if it
		// has refused m since, it does not have m.
		if first, wall = m.Queued, m.queuedWall; m.Failed != nil && m.Failed.Kind != pim.KindTimeout {
			return nil
		}
	}
	if age := t.since(first, wall); first != 0 && t.known && age >= millis(pim.DedupWindow-forgetMargin) {
		return pim.Errorf(pim.KindTimeout, "it was sent %d days ago, and the server may not know it any more", age/millis(24*time.Hour))
	}
	return nil
}
