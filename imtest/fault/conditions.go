package fault

import "time"

// Conditions are how the network is. The zero value is a good one. Those of a
// Path hold for what passes from now on, over connections that are there already
// too.
type Conditions struct {
	Up, Down Path // from the client to the server, and back
	Accept   Accept
	// HalfOpen keeps the end of one side, orderly or not, from the other: its
	// connection stays, and what it sends vanishes.
	HalfOpen bool
}

// Path is one direction. It never changes the order of bytes, since TCP does not.
type Path struct {
	Delay  time.Duration
	Jitter time.Duration // Delay is up to this much shorter or longer, evenly
	// Loss is the share of chunks of up to 4 KiB that are lost at first, 0 to 1:
	// they, and what is behind them, come Stall later.
	Loss  float64
	Stall time.Duration
	Rate  int // bytes a second; 0: no limit
	// Hold lets nothing through until it is off; then all of it comes, as after a
	// short tunnel.
	Hold bool
	// BlackHole makes bytes vanish, and the end of the connection with them. A
	// connection that has lost something passes nothing more in this direction,
	// even when BlackHole is off again.
	BlackHole bool
}

// Accept is what becomes of new connections.
type Accept uint8

// What becomes of new connections.
const (
	Serve  Accept = iota // they reach the target
	Refuse               // nobody listens: connection refused
	Silent               // they are accepted, and nothing ever comes back
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

// due returns when a chunk of n bytes that was read at now arrives, given when
// the chunk before left (busy) and when it arrived (last). rnd is even in [0, 1).
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
