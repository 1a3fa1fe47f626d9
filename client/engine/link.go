package engine

import (
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
	"github.com/pim-im/pim/wire/wirepb"
)

// phase is where a connection stands.
//
//	waiting ──time──► dialling ──Dialled──► greeting ──Welcome──► open
//	   ▲                  │                    │                    │
//	   └──────────────────┴──────── Lost ──────┴────────────────────┘
//
// and from each of them stopped, for good.
type phase uint8

const (
	waiting phase = iota
	dialling
	greeting
	open
	stopped
)

// link is the state of the connection.
type link struct {
	phase     phase
	attempt   uint64        // the number of the last
	attempts  int           // that failed since a connection was last good
	dialAt    time.Duration // waiting: next attempt
	greetedAt time.Duration // greeting: when Hello was transmitted
	welcomeBy time.Duration
	openedAt  time.Duration
	pingedAt  time.Duration // the last ping, or Welcome
	pongBy    time.Duration // something must have come until then; 0: nothing is awaited
	nonce     uint64
	cause     *pim.Error // the last PIMError that answered no request
	stopErr   *pim.Error
}

const (
	pongTimeout = 8 * time.Second
	maxPing     = 30 * time.Second // between pings while answers are awaited
	goodAfter   = time.Second      // a connection that lived so long resets the backoff
	maxWindow   = 10 * time.Minute // of a PIMGoAway that is honoured
)

func (e *Engine) dial() {
	e.link.phase, e.link.cause = dialling, nil
	e.link.attempt++
	e.out.Dials = append(e.out.Dials, Dial{Attempt: e.link.attempt, Server: e.cfg.Servers[0]})
	e.emit(StateEvent{State: Connecting})
}

func (e *Engine) greet(attempt uint64, token string) {
	if e.link.phase != dialling || attempt != e.link.attempt {
		return
	}
	e.link.phase = greeting
	e.link.greetedAt, e.link.welcomeBy = e.now.Mono, e.now.Mono+e.cfg.RequestTimeout
	e.write(&wirepb.Hello{
		Version: wire.Version, Token: token, Device: string(e.cfg.Device),
		AckSerial: e.meta.AckSerial, Agent: e.cfg.Agent,
	})
}

func (e *Engine) answerToHello(m wire.Message) {
	switch m := m.(type) {
	case *wirepb.Welcome:
		e.welcome(m)
	case *wirepb.PIMGoAway:
		e.goAway(m)
	case *wirepb.PIMError:
		e.link.cause = wire.ErrorOf(m)
	}
}

func (e *Engine) welcome(w *wirepb.Welcome) {
	user := pim.UserID(w.User)
	if err := e.checkUser(user); err != nil {
		e.stop(err)
		return
	}
	e.setLimits(w.Limits)
	e.link.phase = open
	e.link.openedAt, e.link.pingedAt, e.link.pongBy = e.now.Mono, e.now.Mono, 0
	if e.meta.User != user || w.StorageBehind {
		e.meta.User = user
		e.meta.FullSync = e.meta.FullSync || w.StorageBehind
		e.meta.AckSerial = max(e.meta.AckSerial, w.AckSerial)
		e.metaDirty = true
	}
	e.emit(StateEvent{State: Connected})
	e.calibrate(w)
	e.resumeOutbox()
	e.resumeConversations()
	e.resumeAsks()
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

// lost ends a connection, or an attempt at one.
func (e *Engine) lost(attempt uint64, err error, code wire.Code) {
	if e.link.phase == stopped || e.link.phase == waiting || attempt != e.link.attempt {
		return
	}
	if e.link.cause != nil {
		err = e.link.cause
	}
	if code != 0 && !code.Reconnect() {
		e.stop(asError(err, code))
		return
	}
	e.retreat(err, e.nextWait())
}

// asError returns err as a *pim.Error, and if it is none, one of the kind that
// code stands for.
func asError(err error, code wire.Code) *pim.Error {
	if e, ok := err.(*pim.Error); ok {
		return e
	}
	kind := pim.KindInvalid
	switch code {
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

// nextWait returns a random time up to min(BackoffMin·2ⁿ, BackoffMax) after n
// failures in a row.
func (e *Engine) nextWait() time.Duration {
	if e.link.phase == open && e.now.Mono-e.link.openedAt >= goodAfter {
		e.link.attempts = 0
	}
	limit := e.cfg.BackoffMax
	if n := e.link.attempts; n < 30 && e.cfg.BackoffMin < limit>>n {
		limit = e.cfg.BackoffMin << n
	}
	e.link.attempts++
	return time.Duration(e.cfg.Random() * float64(limit))
}

// retreat leaves the connection and sets the next attempt.
func (e *Engine) retreat(err error, wait time.Duration) {
	e.leave()
	e.suspendOutbox(lossOf(err))
	e.link.phase, e.link.dialAt = waiting, e.now.Mono+wait
	e.emit(StateEvent{State: Waiting, Err: err, RetryIn: wait})
}

// lossOf returns err, why the connection is gone, as what a message waits for.
func lossOf(err error) *pim.Error {
	if e, ok := err.(*pim.Error); ok {
		return e
	}
	return &pim.Error{Kind: pim.KindUnavailable, Text: "the connection is lost", Err: err}
}

// leave forgets what belongs to the connection. Frames that were not taken yet
// are not for the next one; the requests in them are made again there.
func (e *Engine) leave() {
	e.out.Frames = nil
	e.link.pongBy = 0
	e.abandonPulls()
	e.abandonAsks()
	e.sync.request, e.sync.answerBy, e.sync.retryAt = 0, 0, 0
	e.sync.listed = false
}

// hangUp closes the connection from this side and sets the next attempt.
func (e *Engine) hangUp(err error, wait time.Duration) {
	e.retreat(err, wait)
	e.out.Hangups = append(e.out.Hangups, e.link.attempt)
}

// stop ends the engine: no connection will be tried any more.
func (e *Engine) stop(err *pim.Error) {
	e.leave()
	e.link.phase, e.link.stopErr = stopped, err
	e.out.Hangups, e.out.Dials = append(e.out.Hangups, e.link.attempt), nil
	e.failAsks(err)
	e.emit(StateEvent{State: Stopped, Err: err})
}

// goAway takes the server's last frame.
func (e *Engine) goAway(m *wirepb.PIMGoAway) {
	code := wire.Code(min(m.Code, 1<<16-1))
	var err error = &pim.Error{Op: "connect", Kind: pim.KindUnavailable, Text: "the server closed the connection: " + code.String()}
	switch {
	case e.link.cause != nil:
		err = e.link.cause
	case !m.Reconnect:
		err = asError(nil, code)
		err.(*pim.Error).Text += ": " + m.Text
	}
	if !m.Reconnect {
		e.stop(asError(err, code))
		return
	}
	wait := e.nextWait()
	if m.WindowMs > 0 {
		window := min(time.Duration(m.WindowMs)*time.Millisecond, maxWindow)
		wait = time.Duration(e.cfg.Random() * float64(window))
	}
	e.hangUp(err, wait)
}

// alive notes that a frame has come. Whatever it is, the connection works.
func (e *Engine) alive() { e.link.pongBy = 0 }

// pingAt returns when the next ping is due: at half of the time after which the
// server closes a silent connection, and sooner while answers are awaited.
func (e *Engine) pingAt() time.Duration {
	every := e.limits.idle / 2
	if len(e.outbox.flying)+len(e.pulls.active)+len(e.asks.active) > 0 {
		every = min(every, maxPing)
	}
	return e.link.pingedAt + every
}

func (e *Engine) tickLink() {
	now := e.now.Mono
	switch e.link.phase {
	case waiting:
		if now >= e.link.dialAt {
			e.dial()
		}
	case greeting:
		if !e.paused && now >= e.link.welcomeBy {
			e.hangUp(pim.Errorf(pim.KindTimeout, "no Welcome came"), e.nextWait())
		}
	case open:
		if !e.paused && e.link.pongBy != 0 && now >= e.link.pongBy {
			e.hangUp(pim.Errorf(pim.KindTimeout, "the server is silent, a ping was not answered"), e.nextWait())
		} else if now >= e.pingAt() {
			e.ping()
		}
	}
}

func (e *Engine) ping() {
	e.link.nonce++
	e.link.pingedAt = e.now.Mono
	if e.link.pongBy == 0 {
		e.link.pongBy = e.now.Mono + pongTimeout
	}
	e.write(&wirepb.PIMPing{Nonce: e.link.nonce})
	// Pushes are hints: one that was lost on its way is noticed here (I5).
	e.startSync()
	if e.clock.wanted == 0 {
		e.clock.wanted = 1
		e.takeSample()
	}
}

func (e *Engine) linkDeadline(at *time.Duration) {
	switch e.link.phase {
	case waiting:
		*at = min(*at, e.link.dialAt)
	case greeting:
		if !e.paused {
			*at = min(*at, e.link.welcomeBy)
		}
	case open:
		*at = min(*at, e.pingAt())
		if !e.paused && e.link.pongBy != 0 {
			*at = min(*at, e.link.pongBy)
		}
	}
}
