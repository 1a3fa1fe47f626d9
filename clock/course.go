package clock

import "time"

const (
	// carryFor is for how long a node whose clock has jumped goes on by the time that other nodes agreed with before, if
	// it hears nothing that would say otherwise. The monotonic clock errs by less than 1 s a day.
	carryFor = time.Hour

	// steerPart is how slowly a node's time is led to what is right: by one part of so many. At 5,000 ppm what is off by 0.4 s is
	// right in 80 s.
	steerPart = 200

	// setAtLeast is by how much the time of a node that hears others must be corrected at once to count as set. Less than
	// that changes no display order: pim.OrderSlack is more. It covers a clock that ran away by Bound before that was noticed.
	setAtLeast = 2 * Bound
)

// course decides by which time the node goes: by that of its wall clock, or by one that is carried on by the
// monotonic clock, because the wall clock is off. The wall clocks of the other nodes decide:
//
//   - If more than half of all wall clocks agree, that is the time. A node carries on the time by which it went before, and
//     leads it to that of its wall clock, if that is among them, else to theirs: by a two-hundredth at most, so that nobody
//     sees that its wall clock jumps or runs away. If its time is off by more than Bound, because it started with a wrong clock, it takes theirs.
//   - If no majority agrees, but the time by which the node went before is also that of others, the node carries it on. So
//     two nodes are enough to find out which of their clocks has jumped.
//   - A node that waits for others to say what time it is has none until most clocks agree.
//   - A node that hears nobody, or on whose time nobody agrees, takes its wall clock's time when that has been steady. But
//     for carryFor after others have agreed with it the node carries on its time instead.
//
// Samples from before the last jump do not count: the jump may be that of a machine which was suspended, whose monotonic
// clock stood still.
//
// All nodes see the same wall clocks, and no node tells the others by which time it goes. So a time that is wrong does not
// spread.
type course struct {
	waits   bool // there is no time to rely on until most clocks agree on one; cleared then, or by Watch.Await
	begun   bool
	mono    time.Duration // of the last reading
	relied  time.Duration // offset of the time by which the node goes, or went when it last could rely on one
	steered bool          // it is carried on by the monotonic clock, and led to what is right; else it is the wall clock's
	carried bool          // and the wall clock is off
	lost    bool          // at the last reading there was no time to rely on

	jump    Reading       // at which the wall clock jumped last
	vouched time.Duration // Mono when others last agreed with the node's time
	ever    bool          // they have
}

// take goes on to r. jumped says that the wall clock has jumped since the reading before, unsteady that it has not been
// steady since its last jump, and wrong that the kernel calls it off. It returns whether unsteady and wrong still count, and
// when the node's time was set, if it was: by the time that it shows since.
func (c *course) take(r Reading, jumped, unsteady, wrong bool, peers *Peers) (stillUnsteady, stillWrong bool, set *Reading) {
	wall, passed := r.offset(), r.Mono-c.mono
	if !c.begun {
		c.begun, c.relied, passed = true, wall, 0
		c.jump = Reading{Mono: minDuration}
	}
	c.mono = r.Mono
	if jumped {
		c.jump = r
	}
	if c.waits || !c.steered && !c.lost && !jumped && !wrong {
		c.relied = wall // while it waits, nobody has been told of another
	}
	waited := c.waits
	before, to, near := c.relied, wall, (wall-c.relied).Abs() <= Bound
	step := passed / steerPart
	lead := func(to time.Duration) time.Duration { return c.relied + min(max(to-c.relied, -step), step) }
	switch most, sure, agrees := c.most(wall, r.Mono, peers); {
	case sure && agrees:
		c.steered, c.carried, unsteady = true, false, false
		c.vouch(r.Mono)
		if near {
			to = lead(wall)
		}
	case sure:
		c.steered, c.carried, unsteady, wrong = true, true, false, false
		c.vouch(r.Mono)
		if to = (most.least + most.most) / 2; (to - c.relied).Abs() <= Bound {
			to = lead(to)
		}
	case c.agreesWith(peers, r.Mono):
		c.steered, c.carried, unsteady, wrong = true, true, false, false
		c.vouch(r.Mono)
		to = c.relied
	case c.ever && r.Mono-c.vouched <= carryFor && !unsteady && !wrong:
		if c.carried = !near; c.carried {
			to = c.relied
		} else {
			to = lead(wall)
		}
	case c.ever && r.Mono-c.vouched <= carryFor:
		if c.carried { // it goes on as before, whatever its wall clock does
			unsteady, wrong, to = false, false, c.relied
		}
	default:
		c.steered, c.carried = false, false
	}
	if c.lost = unsteady || wrong || c.waits; c.lost {
		return unsteady, wrong, nil
	}
	c.relied = to
	if waited {
		return false, false, nil // whatever it is: nothing was dated by another
	}
	least := Bound
	if c.ever {
		least = setAtLeast
	}
	switch {
	case (to - before).Abs() <= least:
		return false, false, nil
	case c.carried || r.Mono-c.jump.Mono > 2*Steady:
		return false, false, &Reading{Wall: to + r.Mono, Mono: r.Mono}
	}
	set = new(Reading)
	*set = c.jump
	return false, false, set
}

// most returns the offsets on which most wall clocks agree, whether they do, and whether the node's own does with them.
func (c *course) most(wall, mono time.Duration, peers *Peers) (most span, sure, agrees bool) {
	since := c.since(mono)
	if !peers.heard(since) {
		return most, false, false
	}
	most, sure = peers.agreed(wall, since)
	bound := PeerBound
	if c.carried {
		bound = peerCalm
	}
	_, apart := most.from(Sample{Offset: wall})
	return most, sure, apart <= bound-PeerBound/2
}

// agreesWith reports whether most clocks agree with the node's time, if that counts as the node's own clock.
func (c *course) agreesWith(peers *Peers, mono time.Duration) bool {
	since := c.since(mono)
	if !peers.heard(since) {
		return false
	}
	most, sure := peers.agreed(c.relied, since)
	_, apart := most.from(Sample{Offset: c.relied})
	return sure && apart <= PeerBound/2
}

// since returns from when on samples count.
func (c *course) since(mono time.Duration) time.Duration {
	return max(c.jump.Mono, mono-peerAge)
}

// vouch notes that others agree with the node's time, or that it takes theirs.
func (c *course) vouch(mono time.Duration) { c.vouched, c.ever, c.waits = mono, true, false }
