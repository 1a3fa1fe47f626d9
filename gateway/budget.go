package gateway

import (
	"time"

	"github.com/pim-im/pim/limit"
	"github.com/pim-im/pim/wire"
)

// A connection that sends more frames or bytes than one may is read more slowly: the reading
// goroutine pauses after the read that was too much, and the client's kernel fills up. What the read
// has brought in is on its way by then. Only a client that goes on like that is sent away.

// spend charges the connection's budget with a read of so many bytes, whose frames are handled. It
// pauses if that was too much. It reports false if the connection has ended.
func (c *conn) spend(bytes int) bool {
	g, in := c.gw, &c.in
	if !g.gate.BoundsSends() {
		return true
	}
	now := g.Mono()
	if in.sent == nil {
		in.sent = new(limit.Sent)
		*in.sent = g.gate.Returns(c.user, c.device)
	}
	slow := g.gate.Sends(in.sent, now, c.user, c.device, int(in.frames), bytes)
	in.frames = 0
	if slow.Reason == limit.None {
		return true
	}
	if slow.Insists {
		g.Metrics.insists.WithLabelValues(slow.Reason.String()).Inc()
		c.dismissFor(wire.CodeOverloaded, slow.Reason.Text(), 2*slow.Pause)
		return false
	}
	g.Metrics.slowed(slow.Reason, slow.Pause)
	c.pause(slow.Pause)
	return true
}

// forgetSent forgets what the connection has sent, if that bounds it no more.
func (c *conn) forgetSent() {
	if c.in.sent != nil && c.in.sent.Whole(c.gw.Mono()) {
		c.in.sent = nil
	}
}

// pause waits for d, or until the connection is closed. Only the reading goroutine may call it. The
// limits of time that ask for bytes of the client begin anew after that.
func (c *conn) pause(d time.Duration) {
	end := c.gw.elapsed() + d.Milliseconds() + 1
	c.lastRead.Store(end)
	if c.halfSince.Load() != 0 {
		c.halfSince.Store(end)
	}
	over := false
	t := time.AfterFunc(d, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		over = true
		c.tell()
	})
	defer t.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !over && !c.closed {
		c.await()
	}
}
