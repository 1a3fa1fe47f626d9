package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim/wire"
)

// janitor closes connections that are over a limit of time, when the wheel says that
// it may be so, and looks at all of them when something happened that changes their
// limits. A second is precise enough for limits of many.
func (g *Gateway) janitor() {
	t := time.NewTicker(lookTick)
	defer t.Stop()
	news := newNews(g)
	var trim trimmer
	for {
		select {
		case <-t.C:
			m := g.moment()
			if news.come(m) {
				g.sessions.each(func(c *conn) { c.lookBy(c.inspect(m)) })
			}
			g.wheel.turn(m.elapsed, func(c *conn) {
				g.wheel.put(c, c.inspect(m))
				c.renew(m)
			})
			trim.tick(g.open.Load())
		case <-g.ctx.Done():
			return
		}
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

// news notices what makes limits end that the wheel does not know of: a wall clock
// that is set forward, by which tokens expire, and keys that are withdrawn.
type news struct {
	keys  *keyring
	ahead int64 // of the wall clock, against the elapsed time, when all were looked at
}

// setForward is by how many milliseconds the wall clock must have been set forward, or
// have crept, to be news.
const setForward = 500

func newNews(g *Gateway) *news {
	m := g.moment()
	return &news{keys: &g.keys, ahead: m.now - m.elapsed}
}

// come reports whether all connections are to be looked at.
func (n *news) come(m moment) bool {
	withdrawn := n.keys.withdrawn()
	ahead := m.now - m.elapsed
	forward := ahead-n.ahead > setForward
	if forward || n.ahead-ahead > setForward {
		n.ahead = ahead
	}
	return withdrawn || forward
}

// keyring knows the flags of the keys that let connections in; see
// account.Claims.
type keyring struct {
	mu   sync.Mutex
	good map[*atomic.Bool]struct{} // not withdrawn when they were looked at last
}

// note makes known a key by which a connection came in, which is in the registry
// already. The caller looks at the flag after that.
func (k *keyring) note(withdrawn *atomic.Bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if withdrawn == nil || withdrawn.Load() {
		return
	}
	if k.good == nil {
		k.good = make(map[*atomic.Bool]struct{})
	}
	k.good[withdrawn] = struct{}{}
}

// withdrawn reports whether a key was withdrawn since it was asked last.
func (k *keyring) withdrawn() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	gone := false
	for flag := range k.good {
		if flag.Load() {
			delete(k.good, flag)
			gone = true
		}
	}
	return gone
}

// join puts c, which is in the registry, under the janitor's eyes.
func (c *conn) join() {
	c.gw.keys.note(c.withdrawn)
	c.gw.wheel.put(c, c.inspect(c.gw.moment()))
}

// inspect closes c if it is over a limit at m, and returns when it is to be looked at
// again if nothing else happens: when it may be over one.
func (c *conn) inspect(m moment) (next int64) {
	l := &c.gw.Limits
	next = m.elapsed + lookAhead.Milliseconds()
	over := func(since int64, limit time.Duration) bool {
		if since == 0 {
			return false
		}
		end := since + limit.Milliseconds()
		if m.elapsed > end {
			return true
		}
		next = min(next, end+1)
		return false
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
	case c.expires == 0:
	case m.now <= c.expires:
		next = min(next, m.elapsed+c.expires-m.now+1)
	case m.doubt != nil:
		// Now goes on from the time that was relied on last, so a token does run out.
		// But the client is to come back with another, not to take this for refused.
		c.shut(wire.CodeUnavailable, "the token seems to have expired, and the node's clock is in doubt")
	default:
		c.shut(wire.CodeUnauthorized, "the token has expired")
	}
	return next
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
