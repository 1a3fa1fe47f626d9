package gateway

import (
	"runtime/debug"
	"time"

	"github.com/pim-im/pim/wire"
)

// janitor looks at every connection once a second and closes those that are
// over a limit of time. One second is precise enough for limits of many.
func (g *Gateway) janitor() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var w wave
	for {
		select {
		case <-t.C:
			w.tick(g.ids.Load())
			now := g.moment()
			for _, c := range g.sessions.all() {
				c.inspect(now)
			}
		case <-g.ctx.Done():
			return
		}
	}
}

// wave notices the end of a wave of connections. Handshakes leave garbage of
// about the size of what they set up, and grown stacks; without a collection
// that follows, an idle node would hold them for minutes.
type wave struct {
	seen, trimmed uint64 // connection IDs given out
}

// waveSize is from how many connections on a collection is worth it.
const waveSize = 500

func (w *wave) tick(ids uint64) {
	quiet := ids-w.seen < waveSize/10
	w.seen = ids
	if w.trimmed == 0 {
		w.trimmed = ids
	}
	if quiet && ids-w.trimmed >= waveSize {
		w.trimmed = ids
		debug.FreeOSMemory()
	}
}

// moment is when connections are looked at.
type moment struct {
	elapsed int64 // see Gateway.elapsed
	now     int64 // ms since 1970
	doubt   error // why now may be wrong
}

func (g *Gateway) moment() moment {
	doubt := g.Doubt() // first: when it is over, Now is right
	return moment{elapsed: g.elapsed(), now: g.Now().UnixMilli(), doubt: doubt}
}

// inspect closes c if it is over a limit at m.
func (c *conn) inspect(m moment) {
	l := &c.gw.Limits
	over := func(since int64, limit time.Duration) bool {
		return since != 0 && m.elapsed-since > limit.Milliseconds()
	}
	switch {
	case over(c.writing.Load(), l.Write):
		// What is queued cannot be delivered, so neither can a last word.
		c.gw.Metrics.closed(wire.CodeSlow)
		c.log().Debug("closing", "code", wire.CodeSlow.String(), "text", "a write did not make way")
		c.abort()
	case over(c.halfSince.Load(), l.Handshake):
		c.shut(wire.CodeHandshake, "a frame stayed unfinished")
	case over(c.lastRead.Load(), c.idleLimit()):
		c.shut(wire.CodeIdle, "nothing was heard from the client")
	case c.withdrawn != nil && c.withdrawn.Load():
		c.shut(wire.CodeUnauthorized, "the key that signed the token was withdrawn")
	case c.expires == 0 || m.now <= c.expires:
	case m.doubt != nil:
		// Now goes on from the time that was relied on last, so a token does run out.
		// But the client is to come back with another, not to take this for refused.
		c.shut(wire.CodeUnavailable, "the token seems to have expired, and the node's clock is in doubt")
	default:
		c.shut(wire.CodeUnauthorized, "the token has expired")
	}
}

// beatGrace is how much later than announced a heartbeat may come.
const beatGrace = 30 * time.Second

// idleLimit returns how long the connection may be silent: as long as any may,
// unless the client has announced its heartbeats.
func (c *conn) idleLimit() time.Duration {
	if ms := c.heartbeat.Load(); ms != 0 {
		return time.Duration(ms)*time.Millisecond + beatGrace
	}
	return c.gw.Limits.Idle
}

// announce notes how far apart the client's heartbeats will be, at most as far as
// Limits.Heartbeat; 0 changes nothing.
func (c *conn) announce(ms uint32) {
	if limit := uint32(c.gw.Limits.Heartbeat / time.Millisecond); ms != 0 && limit != 0 {
		c.heartbeat.Store(min(ms, limit))
	}
}
