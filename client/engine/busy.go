package engine

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pim-im/pim"
)

// A server that is overloaded turns clients away and says when to come back. It is left alone
// until then, at all its addresses and whatever the app does, because every further attempt
// costs what it has too little of. Servers that have not said so are asked meanwhile.

// maxBusy bounds the refusals that are kept, besides one for each of Config.Servers: an attacker
// could have an endless number of gateways named, each of which turns the client away.
const maxBusy = 32

// busy are the servers that have turned this device away and said until when.
type busy []turnedAway

// turnedAway is one refusal.
type turnedAway struct {
	server string // its URL
	until  time.Duration
	why    error
}

// note keeps in mind that server is not to be dialled before until, because of why. It takes the
// place of what was said at this URL before. Of more than most refusals the oldest is forgotten.
func (b *busy) note(now time.Duration, server string, until time.Duration, why error, most int) {
	*b = slices.DeleteFunc(*b, func(t turnedAway) bool { return t.until <= now || t.server == server })
	if *b = append(*b, turnedAway{server, until, why}); len(*b) > most {
		*b = slices.Delete(*b, 0, 1)
	}
}

// until returns when server may be dialled, 0 if it may be at any time, and why not before.
func (b busy) until(server string) (at time.Duration, why error) {
	for _, t := range b {
		if t.until > at && sameServer(t.server, server) {
			at, why = t.until, t.why
		}
	}
	return at, why
}

// address is where a URL leads.
type address struct {
	host, port string
	transport  string
}

// addressOf returns the address in a URL.
func addressOf(server string) address {
	scheme, rest, _ := strings.Cut(strings.ToLower(server), "://")
	a := address{transport: "websocket"}
	switch scheme {
	case "tcp", "tls":
		a.transport = "tcp"
	case "quic":
		a.transport = "quic"
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	a.host = rest[strings.LastIndexByte(rest, '@')+1:]
	if i := strings.LastIndexByte(a.host, ':'); i > strings.LastIndexByte(a.host, ']') {
		a.host, a.port = a.host[:i], a.host[i+1:]
	}
	if a.port == "" && a.transport == "websocket" {
		a.port = "80"
		if scheme == "https" || scheme == "wss" {
			a.port = "443"
		}
	}
	return a
}

// sameServer reports whether two URLs are taken for addresses of one server. It listens at one port
// for WebSockets, at one for TCP and at one for QUIC. So two ports of a host that differ are one server's if they
// are of different transports, and belong to two nodes on that host if they are of the same.
func sameServer(one, other string) bool {
	a, b := addressOf(one), addressOf(other)
	return a.host == b.host && (a.port == b.port || a.transport != b.transport)
}

// retryAfterOf returns the time that err names, at most maxWindow; 0: none.
func retryAfterOf(err error) time.Duration {
	var refused *pim.Error
	if !errors.As(err, &refused) {
		return 0
	}
	return min(max(refused.RetryAfter, 0), maxWindow)
}

// turnedAway takes note that server wants to be left alone: for the time that why names and a
// random time more, which is up to a quarter of it, or up to the end of window if that comes later.
// So those who are told the same do not all come back in the same moment. It reports false if no
// time is named.
func (e *Engine) turnedAway(server string, why error, window time.Duration) bool {
	least := retryAfterOf(why)
	most := max(least+least/4, min(window, maxWindow))
	if most == 0 {
		return false
	}
	now := e.now.Mono
	wait := least + time.Duration(e.cfg.Random()*float64(most-least))
	e.route.busy.note(now, server, now+wait, why, len(e.cfg.Servers)+maxBusy)
	return true
}
