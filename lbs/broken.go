package lbs

import "math/rand/v2"

// Defects are ways in which a Balancer is broken on purpose, to show what its parts are for and that tests miss them. No
// server breaks one.
type Defects uint8

// The defects.
const (
	Forgets   Defects = 1 << iota // it does not note what it has assigned
	Trusts                        // it gives places to strangers
	NoWindows                     // all who wait ask again within MinWindow
)

func (d Defects) has(one Defects) bool { return d&one != 0 }

// NewBroken returns a Balancer as New does, with defects: for tests and simulators.
func NewBroken(r *rand.Rand, d Defects) *Balancer {
	b := New(r)
	b.broken = d
	return b
}
