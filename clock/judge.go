package clock

import (
	"fmt"
	"time"
)

const (
	// Bound is how far the clock may be off, and how far it may jump.
	Bound = 400 * time.Millisecond
	// Steady is how long the clock must be steady after a jump.
	Steady = 10 * time.Second

	slewPart     = 2000                  // 1/2,000 is 500 ppm, the most that NTP slews by
	steadyWithin = 20 * time.Millisecond // how far a steady clock may move between readings, beyond a slew
)

// Reading is what the clocks say at one moment.
type Reading struct {
	Wall   time.Duration // since 1970
	Mono   time.Duration // since any fixed moment
	Kernel Kernel
}

func (r Reading) offset() time.Duration { return r.Wall - r.Mono }

// Kernel is what the operating system knows of its clock.
type Kernel struct {
	Synchronised bool          // by a time service; if false, the other fields say nothing
	Offset       time.Duration // still to be corrected
	Error        time.Duration // the estimated error
	MaxError     time.Duration // the largest possible error
}

// judge decides from one reading after the other whether the clock can be relied on. It
// does no I/O and reads no clock.
type judge struct {
	begun bool
	first time.Duration // offset of the first reading
	right time.Duration // offset taken for right; follows the clock as fast as a slew may
	mono  time.Duration // of the last reading

	jumps      int
	jump       time.Duration // by how much the clock last jumped
	unsteady   bool          // the clock has not been steady for long enough since the last jump
	steadyFrom time.Duration // Mono of the reading since which the clock is steady
}

// take judges r, whose Mono must not be less than that of the reading before. unsteady says that the wall clock has
// not been steady for long enough since it jumped, wrong that the kernel calls it off.
func (j *judge) take(r Reading) (unsteady, wrong bool) {
	if !j.begun {
		j.begun, j.first, j.right, j.mono = true, r.offset(), r.offset(), r.Mono
	}
	slew := (r.Mono - j.mono) / slewPart
	j.mono = r.Mono
	off := r.offset() - j.right
	switch {
	case off.Abs() > Bound:
		j.jumps++
		j.jump, j.unsteady, j.steadyFrom, j.right = off, true, r.Mono, r.offset()
	case j.unsteady && off.Abs() > slew+steadyWithin:
		j.steadyFrom, j.right = r.Mono, r.offset()
	default:
		j.right += min(max(off, -slew), slew)
	}
	j.unsteady = j.unsteady && r.Mono-j.steadyFrom < Steady
	k := r.Kernel
	return j.unsteady, k.Synchronised && max(k.Error, k.Offset.Abs()) > Bound
}

// trouble says in words why the clock cannot be relied on, "" if it can.
func (j *judge) trouble(k Kernel, unsteady, wrong bool) string {
	switch {
	case unsteady:
		return fmt.Sprintf("the node's clock jumped by %v; it does not write until the clock has been steady for %v",
			j.jump.Round(time.Millisecond), Steady)
	case wrong:
		return fmt.Sprintf("the node's clock is off: %v to be corrected, estimated error %v, at most %v are allowed", k.Offset, k.Error, Bound)
	}
	return ""
}

// drift returns by how much the wall clock has moved against the monotonic clock since
// the first reading.
func (j *judge) drift(r Reading) time.Duration { return r.offset() - j.first }
