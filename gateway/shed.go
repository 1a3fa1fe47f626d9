package gateway

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/limit"
)

// What a gateway sheds while the node has more to do than it can (Options.Overload): typing is
// dropped; presence and receipts are told later, when the load is gone, and only what is true then;
// pulls and logins are refused with a time. Sends are shed by the writers. PIMPushAck, pushes, syncs
// of devices that are there, heartbeats and the time are never shed.

// shed counts one request of a class that is shed now, and returns its refusal; nil if the class is not shed.
func (g *Gateway) shed(c limit.Class) error {
	if !g.Overload.Sheds(c) {
		return nil
	}
	g.Overload.Shed(c, 1)
	return &pim.Error{Kind: limit.Busy.Kind(), Text: limit.Busy.Text(), RetryAfter: g.Overload.After()}
}

// shedPull is shed for a pull. A device that fetches what it has not got waits for what is durable, as for a push, so its
// pulls are not shed.
func (c *conn) shedPull() error {
	if !c.gw.Overload.Sheds(limit.History) {
		return nil
	}
	c.mu.Lock()
	catching := c.catching
	c.mu.Unlock()
	if catching {
		return nil
	}
	return c.gw.shed(limit.History)
}

// shedLogin returns the refusal of a login while logins are shed. It has a longer time than requests have: whoever
// is there and waits for an answer goes first.
func (g *Gateway) shedLogin() error {
	if !g.Overload.Sheds(limit.NewLogins) {
		return nil
	}
	g.Overload.Shed(limit.NewLogins, 1)
	v := g.gate.Later(limit.Busy)
	g.Metrics.refused(v)
	return v.Err()
}

// holds reports whether what is ready in a queue of looks.ready is not told now.
func (l *looks) holds(queue int) bool {
	if queue == 2 { // users, see queueOf
		return l.overload.Sheds(limit.Typing)
	}
	return l.overload.Sheds(limit.Receipts)
}
