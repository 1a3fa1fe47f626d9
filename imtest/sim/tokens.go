package sim

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/client/engine"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// RefuseTokens makes the server refuse every token for a while, as when its clock or
// its keys are wrong, and end the connections that it has.
func (w *World) RefuseTokens(for_ time.Duration) {
	w.tell(nil, "refuses tokens for %v", for_)
	until := w.now + for_
	w.Server.Admit = func(*wirepb.Hello) *pim.Error {
		if w.now < until {
			return pim.Errorf(pim.KindUnauthorized, "the token has expired")
		}
		return nil
	}
	for _, d := range w.devices {
		d.sendAway(wire.CodeUnauthorized, "the token has expired")
	}
}

// Replace ends the device's connection as if the same device had come from elsewhere.
func (d *Device) Replace() {
	d.w.tell(d, "is replaced")
	d.sendAway(wire.CodeReplaced, "the same device connected again")
}

// sendAway makes the server send PIMGoAway on the device's connection and take no more
// frames from it.
func (d *Device) sendAway(code wire.Code, text string) {
	for _, c := range d.conns {
		if c.session != nil && !c.gone {
			c.toDevice(&wirepb.PIMGoAway{Code: uint32(code), Text: text, Reconnect: code.Reconnect()})
			c.session.Close()
		}
	}
}

// SignOut says whether the app is signed out: then it gives no tokens.
func (d *Device) SignOut(out bool) {
	d.w.tell(d, "has no token: %v", out)
	d.signedOut = out
}

// noToken tells the engine that the app gives no token for the attempt.
func (d *Device) noToken(attempt uint64) {
	e := d.engine
	d.w.After(50*time.Millisecond, func() {
		if d.engine == e && d.engine != nil {
			d.Step(engine.NoToken{Attempt: attempt, Err: pim.Errorf(pim.KindUnauthorized, "no token: signed out")})
		}
	})
}

// someReplacement replaces a device, which stops it. Within a minute its user makes it
// go on.
func (w *World) someReplacement(d *Device) {
	d.Replace()
	w.After(time.Duration(w.rng.IntN(60))*time.Second, func() {
		if !w.healed {
			d.Step(engine.Reconnect{})
		}
	})
}

// someSignOut leaves a device without tokens for a while.
func (w *World) someSignOut(d *Device) {
	d.SignOut(true)
	d.Cut()
	w.After(time.Duration(w.rng.IntN(60))*time.Second, func() { d.SignOut(false) })
}

// comesBack is a user who makes a device go on that has stopped.
func (d *Device) comesBack() {
	if d.engine != nil && d.engine.State() == engine.Stopped {
		d.Step(engine.Reconnect{})
	}
}
