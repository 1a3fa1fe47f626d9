package engine

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

const (
	maxAlternatives = 8   // servers that are kept of those that a PIMGoAway names
	maxServerURL    = 256 // bytes of the URL of one
)

// route is which server is tried next.
type route struct {
	servers      []string // Config.Servers
	alternatives []string // named by the last PIMGoAway; forgotten after the next Welcome
	good         string   // the server of the last Welcome
	turn         int      // attempts since it was last reset; modulo len(order()), whose turn it is

	// given, if not nil, takes the place of all others until givenUntil: the gateways that an LBS has
	// named, or, if givenUntil is never, those that are remembered because no LBS answers.
	given      []string
	givenUntil time.Duration

	busy busy // servers that are left alone
}

// order returns the candidates in the order in which they are tried.
func (r *route) order() []string {
	if r.given != nil {
		return r.given
	}
	var all []string
	add := func(servers ...string) {
		for _, s := range servers {
			if s != "" && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	add(r.alternatives...)
	add(r.good)
	add(r.servers...)
	return all
}

// next returns the server of the next attempt, "" if all are busy, or what was given has expired.
// Those that are busy have no turn, nor have those to avoid if there are others.
func (r *route) next(now time.Duration, avoid ...string) string {
	if r.given != nil && r.givenUntil <= now {
		return ""
	}
	all, first := r.order(), -1
	for turn := r.turn; turn < r.turn+len(all); turn++ {
		s := all[turn%len(all)]
		switch at, _ := r.busy.until(s); {
		case at > now:
		case !slices.Contains(avoid, s):
			r.turn = turn
			return s
		case first < 0:
			first = turn
		}
	}
	if first < 0 {
		return ""
	}
	r.turn = first
	return all[first%len(all)]
}

// take returns the server of an attempt that is made now, see next.
func (r *route) take(now time.Duration, avoid ...string) string {
	s := r.next(now, avoid...)
	r.turn++
	return s
}

// freeAt returns when the first server may be dialled that may be, and why none before; 0: one may
// be at any time.
func (r *route) freeAt() (at time.Duration, why error) {
	at = never
	for _, s := range r.order() {
		if t, err := r.busy.until(s); t < at {
			at, why = t, err
		}
	}
	return at, why
}

// busyUntil returns when the first of those that are busy may be dialled; never: none is, or what was given has expired.
func (r *route) busyUntil(now time.Duration) time.Duration {
	first := never
	if r.given != nil && r.givenUntil <= now {
		return first
	}
	for _, s := range r.order() {
		if at, _ := r.busy.until(s); at > now {
			first = min(first, at)
		}
	}
	return first
}

// give sets what takes the place of all other servers until then.
func (r *route) give(servers []string, until time.Duration) {
	r.given, r.givenUntil, r.turn = servers, until, 0
}

// ungive gives the other servers their turns again.
func (r *route) ungive() {
	if r.given != nil {
		r.given, r.givenUntil, r.turn = nil, 0, 0
	}
}

// placed reports whether an LBS has named a gateway that was not tried yet and may be dialled.
func (r *route) placed(now time.Duration) bool {
	if r.givenUntil == never || r.givenUntil <= now || r.turn >= len(r.given) {
		return false
	}
	for _, s := range r.given[r.turn:] {
		if at, _ := r.busy.until(s); at <= now {
			return true
		}
	}
	return false
}

// begin gives server its turn, if it is one of those that are dialled.
func (r *route) begin(server string) {
	if i := slices.Index(r.order(), server); i >= 0 {
		r.turn = i
	}
}

// reset gives the first candidate its turn.
func (r *route) reset() { r.turn = 0 }

// divert takes the gateways that a PIMGoAway names. They are trusted as far as the
// connection that named them: if all configured servers are encrypted, gateways that
// are not are left out. If the PIMGoAway names none, the next server has its turn, since
// this one has just sent the client away.
func (r *route) divert(named []string) {
	var kept []string
	for _, s := range named {
		if len(kept) < maxAlternatives && r.trusts(s) {
			kept = append(kept, s)
		}
	}
	if r.alternatives = kept; len(kept) > 0 && r.given == nil {
		r.turn = 0
	}
}

// trusts reports whether a gateway that a server names may be dialled.
func (r *route) trusts(s string) bool {
	guarded := !slices.ContainsFunc(r.servers, func(s string) bool { return !encrypted(s) })
	return s != "" && len(s) <= maxServerURL && (encrypted(s) || !guarded)
}

func encrypted(server string) bool {
	scheme, _, _ := strings.Cut(server, "://")
	switch strings.ToLower(scheme) {
	case "https", "wss", "tls", "quic":
		return true
	}
	return false
}

// arrived notes that server has sent a Welcome.
func (r *route) arrived(server string) {
	*r = route{servers: r.servers, good: cmp.Or(server, r.good), busy: r.busy}
}
