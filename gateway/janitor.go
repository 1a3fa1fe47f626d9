package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pim-im/pim/wire"
)

// janitor closes connections that are over a limit of time. It looks at a connection when
// the wheel hands it out, and at all of them when news.come says so. It is late by up to
// a second, which is precise enough for limits of many seconds.
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
				g.Sessions.each(func(c *conn) { c.lookBy(c.inspect(m)) })
			}
			g.wheel.tick(m.elapsed, func(c *conn) {
				g.wheel.put(c, c.inspect(m))
				c.renew(m)
			})
			trim.tick(g.open.Load())
			g.memory.tick(g.Live, g.Limits.Memory, m.elapsed, g.start)
		case <-g.ctx.Done():
			return
		}
	}
}

// moment is the time at which connections are looked at.
type moment struct {
	elapsed int64 // see Gateway.elapsed
	now     int64 // ms since 1970
	doubt   error // why now may be wrong
}

func (g *Gateway) moment() moment {
	doubt := g.Doubt() // before Now: if the doubt is over, Now is right
	return moment{elapsed: g.elapsed(), now: g.Now().UnixMilli(), doubt: doubt}
}

// news notices two events that end connections before the wheel plans to look at them: the wall
// clock, by which tokens expire, is set forward, or a key is withdrawn.
type news struct {
	keys  *keyring
	ahead int64 // wall clock minus elapsed time, in ms, as last noted
}

// setForward is how many milliseconds the wall clock must have gained on the elapsed time,
// at once or bit by bit, to be news.
const setForward = 500

func newNews(g *Gateway) *news {
	m := g.moment()
	return &news{keys: &g.keys, ahead: m.now - m.elapsed}
}

// come reports whether all connections must be looked at.
func (n *news) come(m moment) bool {
	withdrawn := n.keys.withdrawn()
	ahead := m.now - m.elapsed
	forward := ahead-n.ahead > setForward
	if forward || n.ahead-ahead > setForward {
		n.ahead = ahead
	}
	return withdrawn || forward
}

// keyring holds the flags of the keys that let connections in; see
// account.Claims.Withdrawn.
type keyring struct {
	mu   sync.Mutex
	good map[*atomic.Bool]struct{} // were not withdrawn at the last look
}

// note adds the flag of the key by which a connection came in. So that no withdrawal is
// missed, the connection must be among the Sessions already, and the caller must look at the
// flag afterwards.
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

// withdrawn reports whether a key was withdrawn since the last call.
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

// join makes c, which is among the Sessions, known to the keyring and the wheel.
func (c *conn) join() {
	c.gw.keys.note(c.withdrawn)
	c.gw.wheel.put(c, c.inspect(c.gw.moment()))
}

// inspect closes c if it is over a limit at m. It returns when the next look is due if
// nothing else happens: when c may be over a limit, and lookAhead later at most.
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
		// What is queued cannot be delivered, so neither can a last frame.
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
	case m.now <= 1000*int64(c.expires):
		next = min(next, m.elapsed+1000*int64(c.expires)-m.now+1)
	case m.doubt != nil:
		// Now goes on from the time that was relied on last, so a token does run out.
		// But the client must come back with another and not take its token for refused.
		c.shut(wire.CodeUnavailable, "the token seems to have expired, and the node's clock is in doubt")
	default:
		c.shut(wire.CodeUnauthorized, "the token has expired")
	}
	return next
}

// beatGrace is how much later than announced a heartbeat may come.
const beatGrace = 30 * time.Second

// idleLimit returns how long the connection may be silent: Limits.Idle, unless the client
// has announced its heartbeats.
func (c *conn) idleLimit() time.Duration {
	if ms := c.heartbeat.Load(); ms != 0 {
		return time.Duration(ms)*time.Millisecond + beatGrace
	}
	return c.gw.Limits.Idle
}

// announce notes that the client's heartbeats will come every ms milliseconds; above
// Limits.Heartbeat it notes that limit. 0 changes nothing.
func (c *conn) announce(ms uint32) {
	if limit := uint32(c.gw.Limits.Heartbeat / time.Millisecond); ms != 0 && limit != 0 {
		c.heartbeat.Store(min(ms, limit))
	}
}
