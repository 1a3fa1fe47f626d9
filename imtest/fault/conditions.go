package fault

import "time"

// Conditions describe the network. The zero value is a good network. A Path holds for
// all bytes that pass from now on, on existing connections too.
type Conditions struct {
	Up, Down Path // from the client to the server, and back
	Accept   Accept
	// HalfOpen hides the end of one side's connection, orderly or not, from the other
	// side: the other side's connection stays open, and what it sends vanishes.
	HalfOpen bool
}

// Path is one direction. It never changes the order of bytes, since TCP does not.
type Path struct {
	Delay  time.Duration
	Jitter time.Duration // Delay is up to this much shorter or longer, evenly
	// Loss is the share, 0 to 1, of chunks of up to 4 KiB that are lost at first. A
	// lost chunk arrives Stall later, and nothing behind it arrives before it.
	Loss  float64
	Stall time.Duration
	Rate  int // bytes a second; 0: no limit
	// Hold lets nothing through while it is on. When it is off again, everything
	// arrives, as after a short tunnel.
	Hold bool
	// BlackHole makes bytes vanish, and the end of the connection too. Once a
	// connection has lost something, it passes nothing more in this direction, even
	// when BlackHole is off again.
	BlackHole bool
}

// Accept says what happens to new connections.
type Accept uint8

// What happens to new connections.
const (
	Serve  Accept = iota // they reach the target
	Refuse               // nobody listens: connection refused
	Silent               // they are accepted, and get no answer
)

// Side is an end of a connection.
type Side uint8

// The sides.
const (
	Both Side = iota
	ClientSide
	ServerSide
)

// Symmetric returns Conditions with p in both directions.
func Symmetric(p Path) Conditions { return Conditions{Up: p, Down: p} }

// due returns when a chunk of n bytes that was read at now leaves and when it arrives.
// busy is when the chunk before it left, last is when that chunk arrives. rnd is spread
// evenly from 0 to 1, without 1.
func (p *Path) due(n int, now, busy, last time.Time, rnd func() float64) (left, arrives time.Time) {
	left = now
	if busy.After(left) {
		left = busy
	}
	if p.Rate > 0 {
		left = left.Add(time.Duration(n) * time.Second / time.Duration(p.Rate))
	}
	arrives = left.Add(p.Delay + time.Duration((2*rnd()-1)*float64(p.Jitter)))
	if rnd() < p.Loss {
		arrives = arrives.Add(p.Stall)
	}
	if arrives.Before(last) {
		arrives = last
	}
	return left, arrives
}
