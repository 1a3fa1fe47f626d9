package engine

import (
	"cmp"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// phase is where the connection stands.
//
//	           time, NetworkChanged, Online
//	waiting ───────────────────────────────► racing ──Dialled──► greeting ──Welcome──► open
//	   ▲                                       │                    │                   │
//	   └─────────── Lost, too late, silent ────┴────────────────────┴───────────────────┘
//
// From every phase but stopped, Online{false} leads to offline, until Online{true}. An
// end that no further attempt can mend leads to stopped, until Reconnect. A client that knows an LBS
// goes through asking on its way to racing, while it is told which gateways to dial.
type phase uint8

const (
	waiting phase = iota
	asking
	racing
	greeting
	open
	offline
	stopped
)

// link is the state of the connection.
type link struct {
	// Where it stands, and when it is dialled next.
	phase  phase
	using  uint64        // greeting, open: the attempt that won
	server string        // where the attempt using leads
	dialAt time.Duration // waiting: when the next round begins

	// Set while greeting or open.
	greetedAt time.Duration // greeting: when Hello was transmitted
	welcomeBy time.Duration // greeting: when Welcome is overdue
	answered  bool          // greeting: the server has answered Hello with a refusal

	cause   *pim.Error // the last PIMError that answered no request
	stopErr *pim.Error // stopped: why
}

const maxWindow = 10 * time.Minute // a longer wait named by a Welcome, PIMGoAway or refusal is cut to it

var (
	errNoHandshake = pim.Errorf(pim.KindTimeout, "no server could be reached within %v", raceFor)
	errNoWelcome   = pim.Errorf(pim.KindTimeout, "no Welcome came")
	errSilent      = pim.Errorf(pim.KindTimeout, "the server is silent, a ping was not answered")
	errUnanswered  = pim.Errorf(pim.KindTimeout, "%d requests in a row were not answered", maxUnanswered)
	errNetwork     = pim.Errorf(pim.KindUnavailable, "the network has changed")
	errAnew        = pim.Errorf(pim.KindUnavailable, "the connection is made anew")
	errOffline     = pim.Errorf(pim.KindUnavailable, "offline")
)

// lost takes the end of an attempt, or of the connection.
func (e *Engine) lost(attempt uint64, err error, code wire.Code) {
	switch {
	case e.link.phase == racing:
		server, ok := e.race.serverOf(attempt)
		told := ok && e.turnedAway(server, err, 0)
		if told {
			for _, n := range e.race.withdraw(attempt, server) {
				e.hangUpAttempt(n)
			}
		}
		switch e.race.failed(attempt, told, e.route.next(e.now.Mono)) {
		case another:
			e.attempt()
		case over:
			e.retreat(err, e.backoff.lost(e.now.Mono))
		}
		return
	case e.link.phase != greeting && e.link.phase != open, attempt != e.link.using:
		return // hung up before
	}
	if e.link.cause != nil {
		err = e.link.cause
	}
	e.link.answered = e.link.answered || code != 0
	switch {
	case tokenRefused(code, e.link.cause):
		e.heart.failed(e.clock.at(e.now))
		err := asError(err, wire.CodeUnauthorized)
		e.retreat(err, max(e.backoff.refused(e.now.Mono), e.backoff.askedFor(err)))
	case code != 0 && !code.Reconnect() && !e.strays.useUp(code, e.now.Mono):
		e.stop(asError(err, code))
	default:
		if code == wire.CodeOverloaded {
			err = asError(err, code)
		}
		e.heart.failed(e.clock.at(e.now))
		e.retreat(err, e.backoff.lost(e.now.Mono))
	}
}

// attempt starts one more attempt of the round, if it may.
func (e *Engine) attempt() {
	if !e.race.mayTry(&e.route, e.now.Mono) {
		return
	}
	e.out.Dials = append(e.out.Dials, e.race.attempt(e.now.Mono, e.route.take(e.now.Mono, e.race.servers()...)))
}

// asError returns err if it is a *pim.Error, and else an error that wraps err, of
// the kind that code stands for.
func asError(err error, code wire.Code) *pim.Error {
	if e, ok := err.(*pim.Error); ok {
		return e
	}
	kind := pim.KindInvalid
	switch code {
	case wire.CodeOverloaded:
		kind = pim.KindOverloaded
	case wire.CodeReplaced:
		kind = pim.KindReplaced
	case wire.CodeUnauthorized:
		kind = pim.KindUnauthorized
	case wire.CodeTooLarge:
		kind = pim.KindTooLarge
	case wire.CodeUnsupported:
		kind = pim.KindUnsupported
	}
	return &pim.Error{Op: "connect", Kind: kind, Text: "the server closed the connection: " + code.String(), Err: err}
}

// retreat leaves the connection, or the attempts at one; the next round begins after wait, and not
// before a server may be dialled.
func (e *Engine) retreat(err error, wait time.Duration) {
	e.leave(err)
	at, _ := e.freeAt()
	e.link.phase, e.link.dialAt = waiting, max(at, e.now.Mono+wait)
	e.emit(StateEvent{State: Waiting, Err: err, RetryIn: e.link.dialAt - e.now.Mono})
}

// lossOf turns err, why the connection is gone, into the reason why a message waits.
// The kind is always a retryable one, because the message itself was not refused: if it
// fails in the end, the app may send it again, whatever kept the connection away.
func lossOf(err error) *pim.Error {
	if e, ok := err.(*pim.Error); ok {
		if e.Kind.Retryable() {
			return e
		}
		return &pim.Error{Kind: pim.KindUnavailable, Text: "no connection: " + e.Text, Err: e}
	}
	return &pim.Error{Kind: pim.KindUnavailable, Text: "the connection is lost", Err: err}
}

// leave drops the state of the connection. Frames that were not taken yet are dropped
// too: the next connection makes the requests in them again.
func (e *Engine) leave(err error) {
	if e.link.phase == greeting && !e.link.answered {
		e.strays.note(e.now.Mono)
	}
	if e.link.phase == open {
		e.heart.used(e.clock.at(e.now))
	}
	e.backoff.left(e.now.Mono)
	e.heart.cutShort()
	for _, n := range e.race.end() {
		e.hangUpAttempt(n)
	}
	e.out.Frames = nil
	e.watchdog.left()
	e.pulls.left()
	e.asks.suspend()
	e.outbox.suspend(lossOf(err))
	e.sync.left()
}

// cut has the connection closed by this side, if there is one.
func (e *Engine) cut() {
	if e.link.phase == greeting || e.link.phase == open {
		e.hangUpAttempt(e.link.using)
	}
}

// hangUp has the connection closed by this side. The next round begins after wait.
func (e *Engine) hangUp(err error, wait time.Duration) {
	e.cut()
	e.retreat(err, wait)
}

// networkChanged makes the connection anew. What was learned of the heartbeats of the
// network before holds for that network only.
func (e *Engine) networkChanged(name string) error {
	switch {
	case len(name) > maxNetworkName:
		return pim.Errorf(pim.KindInvalid, "the network's name has %d bytes, at most %d are allowed", len(name), maxNetworkName)
	case e.link.phase == stopped:
		return e.link.stopErr
	}
	e.cut()
	e.leave(errNetwork)
	e.heart.onNetwork(name)
	if e.link.phase != offline {
		e.dialAnew()
	}
	return nil
}

// reconnect makes the connection anew, because the app has a new token, or because a
// person wants a client that had stopped to go on.
func (e *Engine) reconnect() {
	if e.link.phase == offline {
		return
	}
	e.cut()
	e.leave(errAnew)
	e.dialAnew()
}

// dialAnew dials at once, since earlier failures say nothing any more. Only servers that are
// busy, and a token that was refused a moment ago, still delay it, see spared.
func (e *Engine) dialAnew() {
	e.link.stopErr = nil
	e.backoff.forget()
	e.route.reset()
	if !e.spared() {
		e.dial()
	}
}

// online takes Online: whether the app wants a connection.
func (e *Engine) online(on bool) error {
	switch {
	case e.link.phase == stopped:
		return e.link.stopErr
	case on != (e.link.phase == offline):
	case on:
		e.dialAnew()
	default:
		e.cut()
		e.leave(errOffline)
		e.link.phase = offline
		e.emit(StateEvent{State: Offline})
	}
	return nil
}

// stop gives up connecting, until Reconnect. Messages can still be queued.
func (e *Engine) stop(err *pim.Error) {
	e.cut()
	e.leave(err)
	e.link.phase, e.link.stopErr = stopped, err
	e.asks.fail(err)
	e.out.Filled = append(e.out.Filled, e.fills.fail(nil, err)...)
	e.emit(StateEvent{State: Stopped, Err: err})
}

// goAway takes a PIMGoAway, the server's last frame.
func (e *Engine) goAway(m *wirepb.PIMGoAway) {
	code := wire.Code(min(m.Code, 1<<16-1))
	err, refused := reasonOf(m, code, e.link.cause), tokenRefused(code, e.link.cause)
	if !m.Reconnect && !refused && !e.strays.useUp(code, e.now.Mono) {
		e.stop(err)
		return
	}
	e.route.divert(m.Alternatives)
	var wait time.Duration
	if refused {
		wait = max(e.backoff.refused(e.now.Mono), e.backoff.askedFor(err))
	} else {
		wait = e.backoff.lost(e.now.Mono)
	}
	window := min(time.Duration(m.WindowMs)*time.Millisecond, maxWindow)
	switch {
	case window == 0:
	case refused:
		wait = max(wait, time.Duration(e.cfg.Random()*float64(window)))
	case code == wire.CodeOverloaded || retryAfterOf(err) > 0: // others may be asked in the usual way
		e.turnedAway(e.link.server, err, window)
		if at, _ := e.freeAt(); at > e.now.Mono {
			wait = 0 // the server's window takes the place of the backoff
		}
	default: // the window is for the next server, too
		wait = time.Duration(e.cfg.Random() * float64(window))
	}
	e.hangUp(err, wait)
}

// reasonOf returns why the server ends the connection: cause, its last PIMError that
// answered no request, or else an error made of m and code.
func reasonOf(m *wirepb.PIMGoAway, code wire.Code, cause *pim.Error) *pim.Error {
	switch {
	case cause != nil:
		return cause
	case m.Reconnect && code != wire.CodeUnauthorized:
		kind := pim.KindUnavailable
		if code == wire.CodeOverloaded {
			kind = pim.KindOverloaded
		}
		return &pim.Error{Op: "connect", Kind: kind, Text: "the server closed the connection: " + code.String()}
	}
	err := asError(nil, code)
	err.Text += ": " + m.Text
	return err
}

// tickLink does what is due for the phase that the connection is in.
func (e *Engine) tickLink() {
	now := e.now.Mono
	switch e.link.phase {
	case waiting:
		if now >= e.link.dialAt {
			e.dial()
		}
	case asking:
		e.tickQuestions()
	case racing:
		switch e.race.due(now) {
		case another:
			e.attempt()
		case over:
			e.retreat(cmp.Or(e.race.noToken, errNoHandshake), e.backoff.lost(now))
		}
	case greeting:
		if !e.paused && now >= e.link.welcomeBy {
			e.hangUp(errNoWelcome, e.backoff.lost(now))
		}
	case open:
		e.tickOpen()
	}
}

// linkDeadline lowers at to when tickLink has something to do.
func (e *Engine) linkDeadline(at *time.Duration) {
	switch e.link.phase {
	case waiting:
		*at = min(*at, e.link.dialAt)
	case asking, racing:
		*at = min(*at, e.race.deadline())
	case greeting:
		if !e.paused {
			*at = min(*at, e.link.welcomeBy)
		}
	case open:
		*at = min(*at, e.heart.beatAt())
		if !e.paused {
			*at = min(*at, e.watchdog.deadline())
		}
	}
}
