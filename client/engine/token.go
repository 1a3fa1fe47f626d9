package engine

import (
	"github.com/pim-im/pim"
	"github.com/pim-im/pim/wire"
)

// tokenRefused reports whether the server refuses the token. The close code says so; if there is
// none, cause does, the server's last PIMError that answered no request.
func tokenRefused(code wire.Code, cause *pim.Error) bool {
	return code == wire.CodeUnauthorized || code == 0 && cause != nil && cause.Kind == pim.KindUnauthorized
}

// spared reports whether all servers are spared a dial now, because they are busy, or because one
// refused a token a moment ago. Then the dial is set for later. Otherwise an app that reconnects
// whenever it hears of a refusal would hammer at the server.
func (e *Engine) spared() bool {
	at, why := e.freeAt()
	if until, ok := e.backoff.sparedUntil(e.now.Mono); ok && until > at {
		at, why = until, errRefused
	}
	switch {
	case at <= e.now.Mono:
		return false
	case e.link.phase == waiting && e.link.dialAt <= at: // the next round begins by then anyway
		return true
	}
	e.link.phase, e.link.dialAt = waiting, at
	e.emit(StateEvent{State: Waiting, Err: why, RetryIn: at - e.now.Mono})
	return true
}

var errRefused = pim.Errorf(pim.KindUnauthorized, "a token was refused a moment ago")

// noToken takes NoToken.
func (e *Engine) noToken(attempt uint64, err *pim.Error) {
	if e.link.phase != racing || e.race.withoutToken(attempt, err) != over {
		return
	}
	e.untokened(err)
}

// untokened ends a round because the app gave no token, and why.
func (e *Engine) untokened(err *pim.Error) {
	wait := e.backoff.askedFor(err)
	if err.Kind == pim.KindUnauthorized {
		wait = max(wait, e.backoff.refused(e.now.Mono))
	} else {
		wait = max(wait, e.backoff.lost(e.now.Mono))
	}
	e.retreat(err, wait)
}
