package sim

import (
	"errors"
	"strings"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// overload is how a gateway turns clients away. The one server of the world has two gateways, one
// and two.
type overload struct {
	until  time.Duration
	how    refusal
	after  time.Duration // that is told
	window time.Duration // of the PIMGoAway, if there is one
}

// refusal is the form of a refusal.
type refusal uint8

const (
	byUpgrade refusal = iota // HTTP with Retry-After; over TCP as byError
	byError                  // PIMError and PIMGoAway
	byErrorAlone
	byWindow // PIMGoAway alone
	byCode   // the close code alone, which names no time
	refusals
)

const maxTold = 10 * time.Minute // longer times are cut to it

// Overload makes the gateway of a name turn clients away for a while.
func (w *World) Overload(gateway string, for_ time.Duration, o overload) {
	w.tell(nil, "gateway %s turns clients away for %v: %+v", gateway, for_, o)
	if w.busy == nil {
		w.busy = make(map[string]overload)
	}
	o.until = w.now + for_
	w.busy[gateway] = o
}

// someOverload overloads some gateways, which may send their clients away. The times that they tell
// are mostly those of a flood, and sometimes absurd.
func (w *World) someOverload(*Device) {
	r := w.rng
	for _, name := range []string{"one", "two"} {
		if r.IntN(3) == 0 {
			continue
		}
		o := overload{how: refusal(r.IntN(int(refusals))), after: time.Duration(1+r.IntN(60_000)) * time.Millisecond}
		if r.IntN(10) == 0 {
			o.after = 20 * time.Hour
		}
		if r.IntN(3) > 0 {
			o.window = 2 * o.after
		}
		w.Overload(name, time.Duration(r.IntN(90))*time.Second, o)
		if r.IntN(3) == 0 {
			w.sendAway(name)
		}
	}
}

// sendAway ends the connections of a gateway that is overloaded.
func (w *World) sendAway(gateway string) {
	for _, d := range w.devices {
		for _, c := range d.conns {
			if c.session != nil && !c.gone && w.gateway(c.server) == gateway {
				c.toDevice(w.busy[gateway].goAway())
				c.session.Close()
			}
		}
	}
}

// gateway returns the name of the gateway that a URL leads to.
func (w *World) gateway(server string) string {
	_, host, _ := strings.Cut(server, "://")
	host, _, _ = strings.Cut(host, ":")
	if name := w.names[host]; name != "" {
		return name
	}
	return host
}

// overloaded returns how the gateway of a connection turns it away; ok is false if it does not.
func (c *conn) overloaded() (o overload, ok bool) {
	o, ok = c.d.w.busy[c.d.w.gateway(c.server)]
	return o, ok && c.d.w.now < o.until
}

// refusedUpgrade reports whether the gateway turns a connection away in place of the upgrade.
func (c *conn) refusedUpgrade() bool {
	o, ok := c.overloaded()
	if !ok || o.how != byUpgrade || !strings.HasPrefix(c.server, "wss:") {
		return false
	}
	c.lost(&pim.Error{Kind: pim.KindOverloaded, Text: "503", RetryAfter: o.after})
	return true
}

// refusedLogin reports whether the gateway answers a Hello with a refusal.
func (c *conn) refusedLogin() bool {
	o, ok := c.overloaded()
	if !ok || c.session == nil {
		return false
	}
	c.session.Close()
	if o.how != byWindow && o.how != byCode {
		c.toDevice(&wirepb.PIMError{Kind: wirepb.ErrorKind(pim.KindOverloaded), Text: "full", Retryable: true, RetryAfterMs: uint32(o.after / time.Millisecond)})
	}
	switch o.how {
	case byCode:
		c.carry(&c.down, false, 0, func() { c.lostWith(errors.New("closed by the server"), wire.CodeOverloaded) })
	case byErrorAlone:
		c.carry(&c.down, false, 0, func() { c.lost(errReset) })
	default:
		c.toDevice(o.goAway())
	}
	return true
}

func (o overload) goAway() *wirepb.PIMGoAway {
	return &wirepb.PIMGoAway{Code: uint32(wire.CodeOverloaded), Reconnect: true, WindowMs: uint32(o.window / time.Millisecond)}
}

// told is what a gateway has told a process of when to come back: not before least, and not later
// than most, on the monotonic clock.
type told struct{ least, most time.Duration }

// noteTime notes when a gateway says to come back.
func (d *Device) noteTime(in engine.Input) {
	var attempt uint64
	var after, window time.Duration
	switch in := in.(type) {
	case engine.Lost:
		var err *pim.Error
		if errors.As(in.Err, &err) {
			attempt, after = in.Attempt, err.RetryAfter
		}
	case engine.Frame:
		attempt = in.Attempt
		switch m := in.Message.(type) {
		case *wirepb.PIMError:
			if len(m.ClientMessageId) == 0 && m.RequestId == 0 {
				after = time.Duration(m.RetryAfterMs) * time.Millisecond
			}
		case *wirepb.PIMGoAway:
			if m.Code == uint32(wire.CodeOverloaded) {
				window = time.Duration(m.WindowMs) * time.Millisecond
			}
		}
	}
	if after+window == 0 {
		return
	}
	after, window = min(after, maxTold), min(window, maxTold)
	now := d.time().Mono
	for _, c := range d.conns {
		if c.attempt == attempt { // it was not hung up
			t := d.told[d.w.gateway(c.server)]
			t.least, t.most = max(t.least, now+after), max(t.most, now+window, now+after*5/4)
			d.told[d.w.gateway(c.server)] = t
		}
	}
}

// comesTo checks that a device leaves a gateway alone for as long as it was told.
func (d *Device) comesTo(server string) {
	if t, now := d.told[d.w.gateway(server)], d.time().Mono; now < t.least {
		d.w.Failf("%s/%s comes to %s %v before the time that it was told", d.User, d.ID, server, t.least-now)
	}
}

// checkWait checks that a device that was turned away does not wait for long if it knows a gateway
// that has not said so, and until the first one may be asked if all have.
func (d *Device) checkWait(ev engine.StateEvent) {
	if ev.State != engine.Waiting || pim.KindOf(ev.Err) != pim.KindOverloaded {
		return
	}
	now, most := d.time().Mono, time.Duration(1<<62)
	for _, s := range d.config.Servers {
		most = min(most, max(d.told[d.w.gateway(s)].most, now))
	}
	if most += d.config.BackoffMax; now+ev.RetryIn > most {
		d.w.Failf("%s/%s waits for %v, though a gateway may be asked %v before that", d.User, d.ID, ev.RetryIn, now+ev.RetryIn-most)
	}
}
