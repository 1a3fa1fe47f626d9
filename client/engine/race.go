package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/pim-im/pim"
)

// A round is a few attempts to connect. While no handshake is through, another
// attempt is started every raceEvery, so a server that swallows everything costs
// that long, not a timeout of TCP. The first attempt whose transport stands (TCP, TLS
// and the WebSocket upgrade) wins. Only the winner says Hello: a second Hello of
// the same device would replace the first, and the server would close the
// connection that won.

const (
	raceEvery    = 2500 * time.Millisecond
	raceAttempts = 3                // in one round
	raceFor      = 15 * time.Second // then the round has failed
)

// race is the round under way.
type race struct {
	running []Dial
	tried   []string      // servers of the attempts of this round
	nextAt  time.Duration // when the next attempt is started
	endBy   time.Duration
	noToken *pim.Error // why the app gave no token for the last attempt that got none; nil: all got theirs
}

// dial starts a round.
func (e *Engine) dial() {
	e.link.phase, e.link.cause = racing, nil
	e.race = race{endBy: e.now.Mono + raceFor}
	e.emit(StateEvent{State: Connecting})
	e.attempt()
}

// attempt starts one more attempt of the round.
func (e *Engine) attempt() {
	e.link.attempt++
	d := Dial{Attempt: e.link.attempt, Server: e.route.take()}
	e.race.running = append(e.race.running, d)
	e.race.tried = append(e.race.tried, d.Server)
	e.race.nextAt = e.now.Mono + raceEvery
	e.out.Dials = append(e.out.Dials, d)
}

// won ends the round, because the transport of the attempt n stands. It reports false,
// and ends nothing, if n is not under way.
func (e *Engine) won(n uint64) bool {
	i := slices.IndexFunc(e.race.running, func(d Dial) bool { return d.Attempt == n })
	if i < 0 {
		return false
	}
	e.link.using, e.link.server = n, e.race.running[i].Server
	e.race.running = slices.Delete(e.race.running, i, i+1)
	e.endRace()
	return true
}

// endRace hangs up all attempts of the round that are under way.
func (e *Engine) endRace() {
	for _, d := range e.race.running {
		e.hangUpAttempt(d.Attempt)
	}
	e.race = race{}
}

// dialFailed takes the failure of an attempt. A server that was not tried in this
// round is tried at once. One that was is tried again only by tickRace, while other
// attempts are under way.
func (e *Engine) dialFailed(n uint64, err error) {
	before := len(e.race.running)
	e.race.running = slices.DeleteFunc(e.race.running, func(d Dial) bool { return d.Attempt == n })
	switch {
	case len(e.race.running) == before: // hung up before
	case len(e.race.tried) < raceAttempts && !slices.Contains(e.race.tried, e.route.next()):
		e.attempt()
	case len(e.race.running) == 0:
		e.retreat(err, max(e.backoff.lost(e.now.Mono), e.backoff.askedFor(err)))
	}
}

func (e *Engine) tickRace() {
	now := e.now.Mono
	switch {
	case now >= e.race.endBy:
		e.retreat(cmp.Or(e.race.noToken, errNoHandshake), e.backoff.lost(now))
	case now >= e.race.nextAt && len(e.race.tried) < raceAttempts:
		e.attempt()
	}
}

func (e *Engine) raceDeadline(at *time.Duration) {
	*at = min(*at, e.race.endBy)
	if len(e.race.tried) < raceAttempts {
		*at = min(*at, e.race.nextAt)
	}
}
