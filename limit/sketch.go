package limit

import (
	"math"
	"time"
)

// A pace is a rate with a burst. It is kept as the generic cell rate algorithm keeps it
// (ITU-T I.371): the state of a count is one time, at which the burst is whole again.
type pace struct {
	every time.Duration // between two at the rate; 0: there is no bound
	burst time.Duration // how long it takes until a burst that was used up is whole
}

// newPace returns the pace of perSecond, of which seconds' worth may come at once, one at
// least. perSecond 0 is no bound.
func newPace(perSecond, seconds int) pace {
	if perSecond <= 0 {
		return pace{}
	}
	every := time.Second / time.Duration(perSecond)
	return pace{every: every, burst: every * time.Duration(perSecond*seconds)}
}

// wait returns how long it takes from now until one more may come, 0 if it may come now. whole
// is the state. Of the burst, spare is left for others.
func (p pace) wait(whole, now, spare time.Duration) time.Duration {
	if p.every == 0 {
		return 0
	}
	return max(max(whole, now)+p.every-now-(p.burst-spare), 0)
}

// next returns the state after one more has come.
func (p pace) next(whole, now time.Duration) time.Duration { return p.nextOf(whole, now, 1) }

// nextOf returns the state after n more have come.
func (p pace) nextOf(whole, now time.Duration, n int) time.Duration {
	return max(whole, now) + p.every*time.Duration(n)
}

const (
	rows  = 4
	cells = 8192 // in a row, a power of 2
)

// A sketch counts very many keys in cells of a fixed number. See the package.
type sketch struct {
	pace
	cells *[rows][cells]time.Duration // nil: there is no bound
}

func newSketch(p pace) sketch {
	if p.every == 0 {
		return sketch{}
	}
	return sketch{p, new([rows][cells]time.Duration)}
}

// cell returns the cell of the key with this hash in a row.
func (s *sketch) cell(row int, hash uint64) *time.Duration {
	return &s.cells[row][(hash>>(16*row))%cells]
}

// state returns the state of the key with this hash.
func (s *sketch) state(hash uint64) time.Duration {
	whole := time.Duration(math.MaxInt64)
	for row := range rows {
		whole = min(whole, *s.cell(row, hash))
	}
	return whole
}

// wait returns how long it takes from now until the key may come once more.
func (s *sketch) wait(hash uint64, now time.Duration) time.Duration {
	if s.cells == nil {
		return 0
	}
	return s.pace.wait(s.state(hash), now, 0)
}

// waitOf returns how long it takes from now until the key may come n times more, after begun times
// that are not charged yet. n may be above the burst: then it may come when nothing else counts.
func (s *sketch) waitOf(hash uint64, now time.Duration, begun, n int) time.Duration {
	if s.cells == nil {
		return 0
	}
	end := s.nextOf(s.state(hash), now, begun) + min(s.every*time.Duration(n), s.burst)
	return max(end-now-s.burst, 0)
}

// charge notes that the key has come. A cell that other keys have brought further stays as it
// is: it says nothing about this key.
func (s *sketch) charge(hash uint64, now time.Duration) { s.chargeOf(hash, now, 1) }

// chargeOf is charge for a key that has come n times.
func (s *sketch) chargeOf(hash uint64, now time.Duration, n int) {
	if s.cells == nil || n == 0 {
		return
	}
	s.raise(hash, s.nextOf(s.state(hash), now, n))
}

// raise notes that the state of the key is whole, or what others have brought its cells to.
func (s *sketch) raise(hash uint64, whole time.Duration) {
	if s.cells == nil {
		return
	}
	for row := range rows {
		c := s.cell(row, hash)
		*c = max(*c, whole)
	}
}
