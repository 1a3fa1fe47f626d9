package lbs

import (
	"slices"
	"time"
)

// expectFor is for how long the clients of a gateway that has vanished are expected.
const expectFor = time.Minute

// gone holds the gateways that have vanished from the view. Their clients are expected to ask.
type gone struct {
	list []lost // a slice: the order of its sums is always the same
}

type lost struct {
	name   string
	own    float64 // clients that this LBS expects: its part of them
	shares float64
	until  time.Duration
}

// add notes that g has vanished.
func (gs *gone) add(g *gateway, now time.Duration) {
	if g.Connections > 0 {
		gs.list = append(gs.list, lost{g.Name, float64(g.Connections) / float64(g.Shares), float64(g.Shares), now + expectFor})
	}
}

// back notes that the gateway of that name is there: its clients are connected to it, or have asked.
func (gs *gone) back(name string) {
	gs.list = slices.DeleteFunc(gs.list, func(l lost) bool { return l.name == name })
}

// advance forgets those whose clients are no longer expected.
func (gs *gone) advance(now time.Duration) {
	gs.list = slices.DeleteFunc(gs.list, func(l lost) bool { return now >= l.until })
}

// asked notes that one client has asked, which may be one of theirs.
func (gs *gone) asked() {
	for i := range gs.list {
		if l := &gs.list[i]; l.own > 0 {
			l.own = max(l.own-1, 0)
			return
		}
	}
}

// ownClients returns how many clients this LBS expects.
func (gs *gone) ownClients() (sum float64) {
	for _, l := range gs.list {
		sum += l.own
	}
	return sum
}

// clients returns about how many clients all LBS together expect.
func (gs *gone) clients() (sum float64) {
	for _, l := range gs.list {
		sum += l.own * l.shares
	}
	return sum
}
