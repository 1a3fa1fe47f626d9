package engine

import (
	"cmp"
	"slices"
	"strings"
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
}

// order returns the candidates in the order in which they are tried.
func (r *route) order() []string {
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

// next returns the server of the next attempt.
func (r *route) next() string {
	all := r.order()
	return all[r.turn%len(all)]
}

// take returns the server of an attempt that is made now.
func (r *route) take() string {
	s := r.next()
	r.turn++
	return s
}

// reset gives the first candidate its turn.
func (r *route) reset() { r.turn = 0 }

// divert takes the gateways that a PIMGoAway names. They are trusted as far as the
// connection that named them: if all configured servers are encrypted, gateways that
// are not are left out. If the PIMGoAway names none, the next server has its turn, since
// this one has just sent the client away.
func (r *route) divert(named []string) {
	guarded := !slices.ContainsFunc(r.servers, func(s string) bool { return !encrypted(s) })
	var kept []string
	for _, s := range named {
		if len(kept) < maxAlternatives && len(s) <= maxServerURL && (encrypted(s) || !guarded) {
			kept = append(kept, s)
		}
	}
	if r.alternatives = kept; len(kept) > 0 {
		r.turn = 0
	}
}

func encrypted(server string) bool {
	scheme, _, _ := strings.Cut(server, "://")
	switch strings.ToLower(scheme) {
	case "https", "wss", "tls":
		return true
	}
	return false
}

// arrived notes that server has sent a Welcome.
func (r *route) arrived(server string) {
	*r = route{servers: r.servers, good: cmp.Or(server, r.good)}
}
