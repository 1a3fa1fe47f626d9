package engine

import (
	"slices"
	"time"

	"github.com/pim-im/pim"
)

// A round is a few attempts to connect. While no attempt has won, another one is
// started every raceEvery. So a server that swallows all packets costs raceEvery, not a
// timeout of TCP. The first attempt whose transport stands (TCP, TLS and the WebSocket
// upgrade) wins. Only the winner says Hello: a second Hello of
// the same device would replace the first, and the server would close the
// connection that won.

const (
	raceEvery    = 2500 * time.Millisecond
	raceAttempts = 3                // in one round
	raceFor      = 15 * time.Second // then the round has failed
)

// race is the round under way, if there is one.
type race struct {
	attempts uint64 // of all rounds; their numbers count from 1

	running []Dial        // none unless racing
	tried   []string      // servers of the attempts of this round, but for those that have said when to come back
	nextAt  time.Duration // when the next attempt is started
	endBy   time.Duration
	noToken *pim.Error // why the app gave no token for the last attempt that got none; nil: all got theirs
}

// verdict is how a round goes on.
type verdict uint8

const (
	goesOn  verdict = iota
	another         // start another attempt
	over            // it has come to nothing
)

// begin starts a round, whose first attempt goes to server.
func (r *race) begin(now time.Duration, server string) Dial {
	*r = race{attempts: r.attempts, endBy: now + raceFor}
	return r.attempt(now, server)
}

// attempt starts one more attempt of the round.
func (r *race) attempt(now time.Duration, server string) Dial {
	r.attempts++
	d := Dial{Attempt: r.attempts, Server: server}
	r.running = append(r.running, d)
	r.tried = append(r.tried, server)
	r.nextAt = now + raceEvery
	return d
}

// drop forgets the attempt n, and returns its server; ok is false if n is not under way.
func (r *race) drop(n uint64) (server string, ok bool) {
	server, ok = r.serverOf(n)
	r.running = slices.DeleteFunc(r.running, func(d Dial) bool { return d.Attempt == n })
	return server, ok
}

// won ends the round, because the transport of the attempt n stands. It returns n's
// server, and the other attempts, to be hung up; ok is false, and the round goes on, if n
// is not under way.
func (r *race) won(n uint64) (server string, others []uint64, ok bool) {
	if server, ok = r.drop(n); ok {
		others = r.end()
	}
	return server, others, ok
}

// end ends the round, and returns the attempts that are under way, to be hung up.
func (r *race) end() (attempts []uint64) {
	for _, d := range r.running {
		attempts = append(attempts, d.Attempt)
	}
	*r = race{attempts: r.attempts}
	return attempts
}

// withdraw ends the attempts other than n that lead to the same server, and returns them, to be
// hung up. The round goes on.
func (r *race) withdraw(n uint64, server string) (others []uint64) {
	r.running = slices.DeleteFunc(r.running, func(d Dial) bool {
		gone := d.Attempt != n && sameServer(d.Server, server)
		if gone {
			others = append(others, d.Attempt)
		}
		return gone
	})
	return others
}

// serverOf returns where the attempt n leads; ok is false if n is not under way.
func (r *race) serverOf(n uint64) (server string, ok bool) {
	i := slices.IndexFunc(r.running, func(d Dial) bool { return d.Attempt == n })
	if i < 0 {
		return "", false
	}
	return r.running[i].Server, true
}

// failed takes the failure of the attempt n; told says that its server has said when to come back. Another attempt would go to the server
// next, "" if none may be dialled.
// A server that was not tried in this round is tried at once. Otherwise the round goes on
// while other attempts are under way, and is over when none is. What was told does not count as a try: while
// attempts at servers that say nothing are under way, that one is asked again at its time.
func (r *race) failed(n uint64, told bool, next string) verdict {
	server, ok := r.drop(n)
	if ok && told {
		r.tried = slices.Delete(r.tried, slices.Index(r.tried, server), slices.Index(r.tried, server)+1)
	}
	switch {
	case !ok: // hung up before
		return goesOn
	case next != "" && len(r.tried) < raceAttempts && !slices.Contains(r.tried, next):
		return another
	case len(r.running) == 0:
		return over
	}
	return goesOn
}

// withoutToken notes that the app gave no token for the attempt n, and why. That is no
// reason to try another server; attempts that have their tokens go on.
func (r *race) withoutToken(n uint64, err *pim.Error) verdict {
	if _, ok := r.drop(n); !ok { // hung up before
		return goesOn
	}
	if r.noToken = err; len(r.running) == 0 {
		return over
	}
	return goesOn
}

// due returns how the round goes on at now.
func (r *race) due(now time.Duration) verdict {
	switch {
	case now >= r.endBy:
		return over
	case now >= r.nextAt && len(r.tried) < raceAttempts:
		return another
	}
	return goesOn
}

// mayTry reports whether an attempt that is due may be started now in rt. It may not if no server may be dialled;
// or if attempts at all of those are under way, and another one has said when to come back. Then the attempt is put off until that one
// may be asked.
func (r *race) mayTry(rt *route, now time.Duration) bool {
	dialled := r.servers()
	next, at := rt.next(now, dialled...), rt.busyUntil(now)
	if next != "" && (at >= r.endBy || !slices.Contains(dialled, next)) {
		return true
	}
	r.nextAt = min(at, r.endBy)
	return false
}

// servers returns where the attempts lead that are under way.
func (r *race) servers() (all []string) {
	for _, d := range r.running {
		all = append(all, d.Server)
	}
	return all
}

// deadline returns when something is due.
func (r *race) deadline() time.Duration {
	if len(r.tried) < raceAttempts {
		return min(r.endBy, r.nextAt)
	}
	return r.endBy
}
