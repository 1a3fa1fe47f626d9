package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// greet takes an attempt whose transport stands. The first one wins the race and says
// Hello; later ones are hung up.
func (e *Engine) greet(in Dialled) {
	attempt, token := in.Attempt, in.Token
	server, others, ok := e.race.won(attempt)
	if !ok {
		e.hangUpAttempt(attempt) // too late
		return
	}
	for _, n := range others {
		e.hangUpAttempt(n)
	}
	e.link.phase, e.link.using, e.link.server, e.link.answered = greeting, attempt, server, false
	e.heart.udp = in.Datagrams
	e.link.greetedAt, e.link.welcomeBy = e.now.Mono, e.now.Mono+e.cfg.RequestTimeout
	e.write(&wirepb.Hello{
		Version: wire.Version, Token: token, Device: string(e.cfg.Device),
		AckSerial: e.meta.AckSerial, Agent: e.cfg.Agent, HeartbeatMs: uint32(e.heart.wish() / time.Millisecond),
		Lease: e.leaseFor(server),
	})
}

func (e *Engine) answerToHello(m wire.Message) {
	switch m := m.(type) {
	case *wirepb.Welcome:
		e.welcome(m)
	case *wirepb.PIMGoAway:
		e.link.answered = true
		e.goAway(m)
	case *wirepb.PIMError:
		e.link.answered = true
		e.saysWhy(m)
	}
}

// saysWhy takes a PIMError that answers no request: why the server is about to end the connection.
// If it says when to come back, that counts from now on, however the connection ends.
func (e *Engine) saysWhy(m *wirepb.PIMError) {
	e.link.cause = wire.ErrorOf(m)
	e.turnedAway(e.link.server, e.link.cause, 0)
}

func (e *Engine) welcome(w *wirepb.Welcome) {
	user := pim.UserID(w.User)
	if err := e.checkUser(user); err != nil {
		e.stop(err)
		return
	}
	e.limits = limitsOf(w.Limits)
	e.link.phase = open
	if len(e.looks.conversations)+len(e.looks.users) > 0 {
		e.tellLook()
	}
	now := e.now.Mono
	e.watchdog.opened(now)
	e.backoff.opened(now, min(time.Duration(w.ReconnectWindowMs)*time.Millisecond, maxWindow))
	e.heart.opened(now, e.limits.longestBeat())
	e.route.arrived(e.link.server)
	if e.meta.User != user || w.StorageBehind {
		e.meta.User = user
		e.meta.FullSync = e.meta.FullSync || w.StorageBehind
		e.meta.AckSerial = max(e.meta.AckSerial, w.AckSerial)
		e.metaDirty = true
	}
	e.doubts.meet(w)
	e.emit(StateEvent{State: Connected})
	e.sampled(e.clock.calibrate(e.link.greetedAt, e.now.Mono, w.ServerMs))
	e.sample()
	e.heart.mayProbeAgain(e.clock.at(e.now))
	e.heart.used(e.clock.at(e.now))
	e.outbox.opened()
	e.resumeDoubts()
	e.resumeConversations()
	e.asks.resume()
	e.resumeSync()
}

func (e *Engine) checkUser(user pim.UserID) *pim.Error {
	switch {
	case e.cfg.User != "" && e.cfg.User != user:
		return pim.Errorf(pim.KindUnauthorized, "the token is for user %s, not %s", user, e.cfg.User)
	case e.meta.User != "" && e.meta.User != user:
		return pim.Errorf(pim.KindConflict, "the token is for user %s, the store is user %s's", user, e.meta.User)
	}
	return nil
}
