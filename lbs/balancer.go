package lbs

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pim-im/pim"
)

const (
	// MaxCandidates is how many gateways an answer names at most, and MinCandidates how many
	// it names at least where so many have room.
	MaxCandidates = 5
	MinCandidates = 3

	// Headroom is the part of an accept rate by which places are given and windows are computed.
	// Clients that come at random times come unevenly, and the rest of the rate takes that up.
	Headroom = 0.8

	// MinWindow and MaxWindow bound the windows.
	MinWindow = time.Second
	MaxWindow = time.Hour

	// FullWindow is the shortest window when the gateways have no room, rather than too many
	// arrivals: room comes when others leave, which asking more often does not hasten.
	FullWindow = 30 * time.Second

	// StrangerWindow is the window of a client that has not shown who it is.
	StrangerWindow = time.Minute

	// LeaseTime is for how long a place is kept: a client that has not dialled by then asks again.
	LeaseTime = 10 * time.Second
)

// Request is what a client asks.
type Request struct {
	// User is who asks, as an access token or a ticket has shown. Empty: the client has shown
	// neither, and is given no place.
	User pim.UserID
	// From is the client's address. The zero Addr is an address that is not known.
	From       netip.Addr
	Site       string     // where the client is; "": not known
	Transports Transports // those that it can use; 0: all
}

// Outcome says what became of a request. Its texts are stable, for metrics.
type Outcome uint8

// The outcomes.
const (
	Assigned Outcome = iota // the client has a place, and dials at once
	Crowded                 // too many come, or nothing has room: the client asks again
	Greedy                  // its user has had more places than one may have: it asks again
	Stranger                // the client has not shown who it is: it asks again with its token
	outcomes
)

var outcomeNames = [outcomes]string{"assigned", "crowded", "greedy", "stranger"}

// String returns the outcome as metrics name it.
func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return "unknown"
}

// Candidate is one gateway of an Answer.
type Candidate struct {
	Gateway    *Gateway   // must not be changed
	Transports Transports // those that both the client and the gateway have
	// Weight is for how many clients like this one the gateway has room. It is at least 1. A client that
	// can't reach the first candidate picks among the others by it.
	Weight uint32
}

// Answer is what a client is told.
type Answer struct {
	Outcome Outcome
	// Candidates begin with the gateway that the client is assigned to. There are none unless Outcome
	// is Assigned.
	Candidates []Candidate
	// Window is the time in which the client asks again: at a random moment from now to its end. It is
	// 0 if the client is assigned.
	Window time.Duration
	// Alone is the window to take when no LBS answers and the client dials a gateway that it remembers:
	// all clients of the system could come back in it. It is 0 for a Stranger.
	Alone time.Duration
	// Expires is when the place is given up, as a time of Ask. It is 0 unless Outcome is Assigned.
	Expires time.Duration
}

// Balancer answers clients. It is not safe for concurrent use. Times are durations from any fixed moment and
// never decrease.
type Balancer struct {
	rand     *rand.Rand
	gateways []gateway
	ledgers  map[string]*ledger // by the gateway's name
	users    users
	networks networks
	steady   waiting // clients of networks that come slowly, who were told to come back
	eager    waiting // clients of other networks
	gone     gone
	rate     float64 // of all gateways of the last view that had any
	part     float64 // this LBS's part of rate
	alone    time.Duration
	broken   Defects

	options []option // scratch of Ask
}

// gateway is a Gateway of the current view.
type gateway struct {
	Gateway
	ledger *ledger
}

// New returns a Balancer that knows no gateway yet. It draws from r, and owns it. The same requests and views at
// the same times have the same answers if r is the same. It takes 3 MiB.
func New(r *rand.Rand) *Balancer {
	return &Balancer{rand: r, ledgers: make(map[string]*ledger), users: newUsers(r.Uint64()), networks: newNetworks(r.Uint64())}
}

// Update replaces the view, which the Balancer owns from now on. The clients of a gateway that is gone are
// expected to ask.
func (b *Balancer) Update(v View, now time.Duration) {
	b.advance(now)
	before := b.gateways
	b.gateways = make([]gateway, len(v.Gateways))
	there := make(map[string]bool, len(v.Gateways))
	var rate, part, connections float64
	for i, g := range v.Gateways {
		there[g.Name] = true
		g.Shares = max(g.Shares, 1)
		if g.Connections < 0 {
			g.Connections = g.MaxConnections / 2
		}
		b.gone.back(g.Name)
		l := b.ledgers[g.Name]
		if l == nil {
			l = newLedger(now, g.ownRate())
			b.ledgers[g.Name] = l
		}
		l.seen = now
		l.limit(now, g.ownRate())
		b.gateways[i] = gateway{Gateway: g, ledger: l}
		connections += float64(g.Connections)
		if g.Ready && !g.Draining {
			rate += max(g.AcceptRate, 0)
			part += g.ownRate()
		}
	}
	for i := range before {
		// A gateway that drained has sent its clients away already, and they have asked by themselves.
		if g := &before[i]; !there[g.Name] && !g.Draining {
			b.gone.add(g, now)
		}
	}
	if rate > 0 {
		b.rate, b.part = rate, part
	}
	b.alone = window(connections+b.gone.clients(), b.rate)
	for name, l := range b.ledgers {
		if !there[name] && now-l.seen > remember {
			delete(b.ledgers, name)
		}
	}
}

// Ask answers one client.
func (b *Balancer) Ask(r Request, now time.Duration) Answer {
	// Nothing changes before it is clear that the question counts, not even by rounding.
	if r.User == "" && !b.broken.has(Trusts) {
		return Answer{Outcome: Stranger, Window: StrangerWindow}
	}
	user := b.users.of(r.User)
	if wait := user.places.wait(placesOfUser, now); wait > 0 {
		return Answer{Outcome: Greedy, Window: wait + greedySpread, Alone: b.alone}
	}
	b.advance(now)
	counts := user.questions.take(questionsOfUser, now)
	eager := !counts || b.networks.eager(r.From, now)
	if counts {
		b.gone.asked()
	}
	if r.Transports == 0 {
		r.Transports = AllTransports
	}
	rate := b.consider(r, eager, now)
	first, ok := b.first()
	if !ok {
		return Answer{Outcome: Crowded, Window: b.comeBack(counts, eager, rate, now), Alone: b.alone}
	}
	user.places.take(placesOfUser, now)
	if o := &b.options[first]; !b.broken.has(Forgets) {
		o.ledger.assign(o.cost)
	}
	return Answer{Outcome: Assigned, Candidates: b.candidates(first), Alone: b.alone, Expires: now + LeaseTime}
}

// advance computes what time alone changes.
func (b *Balancer) advance(now time.Duration) {
	b.steady.advance(now)
	b.eager.advance(now)
	b.gone.advance(now)
}

// comeBack returns the window for a client that is not assigned, and counts it among those that wait if it
// counts. Clients of eager networks wait for all others, and nobody else waits for them.
func (b *Balancer) comeBack(counts, eager bool, rate float64, now time.Duration) time.Duration {
	n, line := b.steady.n+b.gone.ownClients()+1, &b.steady
	if eager {
		n += b.eager.n
		line = &b.eager
	}
	w := window(n, rate)
	if len(b.options) == 0 {
		w = max(w, FullWindow)
	}
	if b.broken.has(NoWindows) {
		w = MinWindow
	}
	if counts {
		line.add(now, w)
	}
	return w
}

// window returns the time in which n clients come back without being more than Headroom of the rate, within
// MinWindow and MaxWindow. While no rate was ever known it is FullWindow.
func window(n, rate float64) time.Duration {
	if rate <= 0 {
		return FullWindow
	}
	seconds := min(n/(Headroom*rate), MaxWindow.Seconds())
	return max(MinWindow, time.Duration(math.Ceil(seconds*1000))*time.Millisecond)
}

// Waiting returns about how many clients wait for this LBS: those that it told to come back and that have not come yet,
// and those of vanished gateways that have not asked yet.
func (b *Balancer) Waiting() int {
	return int(math.Ceil(b.steady.n + b.eager.n + b.gone.ownClients()))
}
