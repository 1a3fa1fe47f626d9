package avalanche

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire/wirepb"
)

// client is one device, or a cohort of them. One that has never lost its connection is this and no more, 32 bytes. Others
// have their engine as well, some 3.5 KiB.
type client struct {
	engine *engine.Engine
	wakeAt time.Duration // when its engine is called next; 0: not before something happens
	using  uint32        // the attempt that won: connected, or its Hello is under way; 0: none
	life   uint16        // the site's, when it let the client in
	site   uint8         // where using leads
	home   uint8
	old    bool
	in     bool // Welcome has come, and the connection is not known to be gone
}

var (
	errBroken = errors.New("the connection broke")
	errClosed = errors.New("the server has closed the connection")
)

// url returns where a site is, and siteOf which one that is.
func url(site int) string { return fmt.Sprintf("wss://s%02d", site) }

func siteOf(url string) uint8 {
	n := len(url)
	return (url[n-2]-'0')*10 + url[n-1] - '0'
}

// at returns the present for an engine.
func (w *world) at(now time.Duration) engine.Time {
	return engine.Time{Mono: now, Wall: pim.Millis(now / time.Millisecond)}
}

// wake gives a client the engine that it has had from the beginning, when it connected to its home, as an LBS had it do if it knows one.
func (w *world) wake(i int) *engine.Engine {
	c := &w.clients[i]
	cfg := engine.Config{
		User: "u", Device: "d", Servers: w.servers[c.home], Watch: true, Random: w.random.Float64,
		BackoffMin: 500 * time.Millisecond, BackoffMax: 30 * time.Second, RequestTimeout: 10 * time.Second,
	}
	if !w.Policy.Jitter { // a second, whatever happens
		cfg.BackoffMin = time.Second
		cfg.BackoffMax, cfg.Random = cfg.BackoffMin, always
	}
	if w.Policy.LBS && !c.old {
		cfg.LBS = w.lbs
	}
	e := engine.New(cfg, engine.Snapshot{})
	step := func(in engine.Input) engine.Output {
		w.step(e, 0, in)
		return e.Take()
	}
	out := step(engine.Start{})
	if len(out.Questions) > 0 {
		out = step(engine.Answered{Attempt: out.Questions[0].Attempt, Answer: w.first[c.home]})
	}
	attempt := out.Dials[0].Attempt
	step(engine.Dialled{Attempt: attempt})
	step(engine.Frame{Attempt: attempt, Message: w.welcome(c)})
	c.engine, c.using = e, uint32(attempt)
	return e
}

// always is chance without jitter: the longest wait.
func always() float64 { return 1 - 1e-9 }

// welcome is what a site says to a client that it has let in.
func (w *world) welcome(c *client) *wirepb.Welcome {
	m := &wirepb.Welcome{User: "u", ReconnectWindowMs: uint32(w.Window / time.Millisecond)}
	if c.old {
		m.ReconnectWindowMs = 0
	}
	return m
}

// step gives an engine an input. None of those that are given here is ever refused.
func (w *world) step(e *engine.Engine, now time.Duration, in engine.Input) {
	if err := e.Step(w.at(now), in); err != nil {
		panic(fmt.Sprintf("%T: %v", in, err))
	}
}

// happens gives a client's engine an input, and carries out what it wants.
func (w *world) happens(i int, in engine.Input) {
	c := &w.clients[i]
	w.step(c.engine, w.now, in)
	out := c.engine.Take()
	for _, n := range out.Hangups {
		if uint32(n) == c.using {
			w.leaves(c)
			continue
		}
		if d, ok := in.(engine.Dialled); ok && d.Attempt == n { // too late, and the site has kept a place for it
			w.release(w.standing.site, w.standing.life)
		}
	}
	if d, ok := in.(engine.Dialled); ok && !slices.Contains(out.Hangups, d.Attempt) {
		c.using, c.site, c.life = uint32(d.Attempt), w.standing.site, w.standing.life
		w.due.add(w.now+trip/2, event{kind: greets, client: int32(i), attempt: c.using, site: c.site, life: c.life})
	}
	for _, d := range out.Dials {
		w.due.add(w.now+trip/2, event{kind: arrives, client: int32(i), attempt: uint32(d.Attempt), site: siteOf(d.Server)})
	}
	for _, q := range out.Questions {
		w.due.add(w.now+trip/2, event{kind: asks, client: int32(i), attempt: uint32(q.Attempt), site: siteOf(q.LBS)})
	}
	if c.in { // its heartbeats are not played
		c.wakeAt = 0
		return
	}
	at, ok := c.engine.Deadline()
	if at = time.Duration(moment(at)) * tick; !ok || at == c.wakeAt {
		return
	}
	c.wakeAt = max(at, w.now+tick)
	w.due.add(c.wakeAt, event{kind: wakes, client: int32(i)})
}

// leaves notes that a client's connection, or the handshake under way, is gone.
func (w *world) leaves(c *client) {
	w.release(c.site, c.life)
	if c.in {
		c.in = false
		w.in--
		w.report.Lost += w.Cohort
	}
	c.using = 0
}

// play lets one event happen.
func (w *world) play(e event) {
	c := &w.clients[e.client]
	i := int(e.client)
	switch e.kind {
	case wakes:
		if c.wakeAt == w.now {
			c.wakeAt = 0
			w.happens(i, engine.Tick{})
		}
	case breaks:
		if c.using == e.attempt {
			if c.engine == nil {
				w.wake(i)
			}
			attempt := c.using
			w.leaves(c)
			w.happens(i, engine.Lost{Attempt: uint64(attempt), Err: errBroken})
		}
	case arrives:
		w.attempt(e)
	case fails:
		w.happens(i, engine.Lost{Attempt: uint64(e.attempt), Err: errClosed})
	case turnedAway:
		err := &pim.Error{Kind: pim.KindOverloaded, Text: "full", RetryAfter: time.Duration(e.number) * time.Millisecond}
		if c.old {
			err.RetryAfter = 0
		}
		w.happens(i, engine.Lost{Attempt: uint64(e.attempt), Err: err})
	case stands:
		if s := &w.sites[e.site]; s.up && s.life == e.life {
			w.standing = e
			w.happens(i, engine.Dialled{Attempt: uint64(e.attempt)})
		}
	case greets:
		w.login(e)
	case welcomed:
		if s := &w.sites[e.site]; s.up && s.life == e.life && c.using == e.attempt {
			c.in = true
			w.in++
			w.happens(i, engine.Frame{Attempt: uint64(e.attempt), Message: w.welcome(c)})
		}
	case asks:
		w.question(e)
	case answered:
		w.happens(i, w.answers.take(e.number, uint64(e.attempt)))
	}
}
