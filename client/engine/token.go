package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// A token that is refused is no reason to stop: the app gives a new one for every
// attempt, and the server's clock, which took a good one for expired, may be right
// the next time. But many may be refused at once, all clients of a server whose
// clock or keys are wrong, and none of them may hammer at it: so the waits grow, up
// to minutes, and nothing that the app does shortens the first.

const (
	// tokenProven is how long a connection lives whose token was good when it was
	// made: a server ends it no earlier than the leeway after exp.
	tokenProven = 30 * time.Second
	// refusalFactor is how many times BackoffMax the waits grow to.
	refusalFactor = 10
)

// refused reports whether code, or what the server said last, is that it does not
// take the token.
func (e *Engine) refused(code wire.Code) bool {
	return code == wire.CodeUnauthorized || code == 0 && e.link.cause != nil && e.link.cause.Kind == pim.KindUnauthorized
}

// tokenWait returns how long to wait after a token was refused: for the n-th in a
// row, n from 1, a random time up to min(BackoffMin·2ⁿ, 10·BackoffMax). One that ran
// out on a connection that was good is replaced as soon as after any other loss.
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

// tokenWasGood reports whether the connection has lived long enough for its token to
// have been good. Then no refusal before it counts any more.
func (e *Engine) tokenWasGood() bool {
	good := e.link.phase == open && e.now.Mono-e.link.openedAt >= tokenProven
	if good {
		e.link.refusals = 0
	}
	return good
}

// spared waits, if a token was refused a moment ago: an app that reconnects whenever
// it hears of that would hammer at the server.
func (e *Engine) spared() bool {
	at := e.link.refusedAt + 2*e.cfg.BackoffMin
	switch {
	case e.link.refusals == 0 || e.now.Mono >= at:
		return false
	case e.link.phase == waiting && e.link.dialAt <= at: // it will be tried by then
		return true
	}
	e.link.phase, e.link.dialAt = waiting, at
	e.emit(StateEvent{State: Waiting, Err: errRefused, RetryIn: at - e.now.Mono})
	return true
}

var errRefused = pim.Errorf(pim.KindUnauthorized, "a token was refused a moment ago")

// noToken takes that the app has none for an attempt. No other server is tried for
// that; attempts that have theirs go on.
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
