package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// A refused token is no reason to stop. The app gives a new token for every attempt;
// and a server that took a good token for expired, because its clock was wrong, may be
// right the next time. But a server whose clock or keys are wrong refuses all its
// clients at once, and they must not hammer at it. So the waits grow, up to minutes,
// and in the first 2·BackoffMin nothing that the app does makes the engine dial.

const (
	// tokenProven is how long a connection must live to prove that its token was good:
	// if the token was valid when the connection was made, the server ends it no
	// earlier than exp plus its leeway of 30 s.
	tokenProven = 30 * time.Second
	// refusalFactor times BackoffMax is the longest wait.
	refusalFactor = 10
)

// refused reports whether the server does not take the token: by code, or, if it gave
// none, by its last PIMError that answered no request.
func (e *Engine) refused(code wire.Code) bool {
	return code == wire.CodeUnauthorized || code == 0 && e.link.cause != nil && e.link.cause.Kind == pim.KindUnauthorized
}

// tokenWait returns how long to wait after a token was refused: after the n-th refusal
// in a row, n from 1, a random time up to min(BackoffMin·2ⁿ, 10·BackoffMax). A token that
// ran out on a connection that proved it good counts as any other loss (nextWait).
func (e *Engine) tokenWait() time.Duration {
	if e.tokenWasGood() {
		return e.nextWait()
	}
	e.link.refusals++
	e.link.refusedAt = e.now.Mono
	limit := refusalFactor * e.cfg.BackoffMax
	if n := e.link.refusals; n < 30 && e.cfg.BackoffMin < limit>>n {
		limit = e.cfg.BackoffMin << n
	}
	return time.Duration(e.cfg.Random() * float64(limit))
}

// tokenWasGood reports whether the connection has lived long enough to prove its token
// good. If so, it forgets the refusals before it.
func (e *Engine) tokenWasGood() bool {
	good := e.link.phase == open && e.now.Mono-e.link.openedAt >= tokenProven
	if good {
		e.link.refusals = 0
	}
	return good
}

// spared reports whether the server is spared a dial now, because it refused a token a
// moment ago. Then the dial is set for later. Otherwise an app that reconnects whenever
// it hears of a refusal would hammer at the server.
func (e *Engine) spared() bool {
	at := e.link.refusedAt + 2*e.cfg.BackoffMin
	switch {
	case e.link.refusals == 0 || e.now.Mono >= at:
		return false
	case e.link.phase == waiting && e.link.dialAt <= at: // the next round begins by then anyway
		return true
	}
	e.link.phase, e.link.dialAt = waiting, at
	e.emit(StateEvent{State: Waiting, Err: errRefused, RetryIn: at - e.now.Mono})
	return true
}

var errRefused = pim.Errorf(pim.KindUnauthorized, "a token was refused a moment ago")

// noToken takes NoToken. It is no reason to try another server; attempts that have
// their tokens go on.
func (e *Engine) noToken(attempt uint64, err *pim.Error) {
	before := len(e.race.running)
	e.race.running = slices.DeleteFunc(e.race.running, func(d Dial) bool { return d.Attempt == attempt })
	if len(e.race.running) == before {
		return // hung up before
	}
	e.race.noToken = err
	if len(e.race.running) > 0 {
		return
	}
	wait := e.askedFor(err)
	if err.Kind == pim.KindUnauthorized {
		wait = max(wait, e.tokenWait())
	} else {
		wait = max(wait, e.nextWait())
	}
	e.retreat(err, wait)
}
