package lbs

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// MaxCandidates is how many gateways an answer names at most, and MinCandidates how many
	// it names at least where so many have room.
	MaxCandidates = 5
	MinCandidates = 3

	// Headroom is the part of an accept rate by which windows are computed. Clients that come at
	// random times come unevenly, and the rest of the rate takes that up.
	Headroom = 0.8

	// MinWindow and MaxWindow bound the windows.
	MinWindow = time.Second
	MaxWindow = time.Hour

	// FullWindow is the shortest window when the gateways have no room, rather than too many
	// arrivals: room comes when others leave, which asking more often does not hasten.
	FullWindow = 30 * time.Second

	// LeaseTime is for how long an assignment holds: a client that has not dialled by then asks again.
	LeaseTime = 30 * time.Second

	// expectFor is for how long the clients of a gateway that has vanished are expected.
	expectFor = time.Minute

	// localSpares is how many gateways of the client's own site an answer names besides the first,
	// before it names those of other sites: a site may fail as a whole.
	localSpares = 2
)

// Request is what a client asks.
type Request struct {
	Site       string     // where the client is; "": not known
	Transports Transports // those that it can use; 0: all
	// Waiting is how many clients wait, as far as the caller knows. The Balancer counts for itself
	// whom it told to come back, and takes the greater number.
	Waiting int
}

// Candidate is one gateway of an Answer.
type Candidate struct {
	Gateway    *Gateway   // must not be changed
	Transports Transports // those that the client and the gateway have
	// Weight is for how many clients like this one the gateway has room. It is at least 1. A client that
	// can't reach the first candidate picks among the others by it.
	Weight uint32
}

// Answer is what a client is told.
type Answer struct {
	// Candidates begin with the gateway that the client is assigned to. If there is none, the client
	// asks again.
	Candidates []Candidate
	// Window is the time in which the client dials, or asks again: at a random moment from now to its
	// end. It is 0 if the client is assigned: whoever is, dials at once.
	Window time.Duration
	// Alone is the window to take when no LBS answers and the client dials a gateway that it remembers:
	// all clients of the system could come back in it.
	Alone time.Duration
	// Expires is when the assignment ends, as a time of Ask.
	Expires time.Duration
}

// Balancer answers clients. It is not safe for concurrent use. Times are durations from any fixed moment and
// never decrease.
type Balancer struct {
	rand     *rand.Rand
	lbs      float64
	gateways []gateway
	ledgers  map[string]*ledger // by the gateway's name
	waiting  waiting
	expected float64       // clients of vanished gateways that have not asked yet
	until    time.Duration // when expected ends
	rate     float64       // of all gateways of the last view that had any
	alone    time.Duration // see Answer
	forgets  bool          // in tests: a broken Balancer, which forgets its assignments

	can []candidate // scratch of Ask
}

// gateway is a Gateway of the current view.
type gateway struct {
	Gateway
	ledger *ledger
}

// candidate is a gateway that a request may be answered with.
type candidate struct {
	*gateway
	shared Transports
	cost   int64
	room   float64
	sum    float64 // scratch of pick: of room up to here
	now    bool    // it may be assigned now
	local  bool
}

// New returns a Balancer that knows no gateway yet. It draws from r, and owns it.
func New(r *rand.Rand) *Balancer {
	return &Balancer{rand: r, lbs: 1, ledgers: make(map[string]*ledger)}
}

// Update replaces the view. The clients of a gateway that is gone are expected to ask.
func (b *Balancer) Update(v View, now time.Duration) {
	b.advance(now)
	b.lbs = float64(max(v.LBS, 1))
	before := b.gateways
	b.gateways = make([]gateway, len(v.Gateways))
	there := make(map[string]bool, len(v.Gateways))
	var rate, connections float64
	for i, g := range v.Gateways {
		there[g.Name] = true
		l := b.ledgers[g.Name]
		if l == nil {
			l = newLedger(now, b.share(g.AcceptRate))
			b.ledgers[g.Name] = l
		}
		l.used = now
		l.limit(now, b.share(g.AcceptRate))
		b.gateways[i] = gateway{Gateway: g, ledger: l}
		connections += float64(g.Connections)
		if g.Ready && !g.Draining {
			rate += g.AcceptRate
		}
	}
	for i := range before {
		if g := &before[i]; !there[g.Name] && g.Connections > 0 {
			b.expected += float64(g.Connections) / b.lbs
			b.until = now + expectFor
		}
	}
	if rate > 0 {
		b.rate = rate
	}
	b.alone = window(connections+b.expected*b.lbs, b.rate)
	for name, l := range b.ledgers {
		if !there[name] && now-l.used > remember {
			delete(b.ledgers, name)
		}
	}
}

// share returns this LBS's part of an accept rate. It is a whole number from 1 on, so that the parts of all
// LBS together are no more than the rate in any second.
func (b *Balancer) share(rate float64) float64 {
	part := max(rate, 0) / b.lbs
	if part >= 1 {
		part = math.Floor(part)
	}
	return part
}

// Ask answers one client.
func (b *Balancer) Ask(r Request, now time.Duration) Answer {
	b.advance(now)
	if b.expected >= 1 {
		b.expected--
	}
	if r.Transports == 0 {
		r.Transports = AllTransports
	}
	rate := b.consider(r, now)
	first := b.pick(func(c *candidate) bool { return c.now && c.local })
	if first < 0 {
		first = b.pick(func(c *candidate) bool { return c.now })
	}
	if first < 0 {
		return Answer{Window: b.comeBack(r, rate, now), Alone: b.alone, Expires: now}
	}
	if c := &b.can[first]; !b.forgets {
		c.ledger.assign(now, c.cost)
	}
	return Answer{Candidates: b.candidates(first), Alone: b.alone, Expires: now + LeaseTime}
}

// advance computes what time alone changes.
func (b *Balancer) advance(now time.Duration) {
	b.waiting.advance(now)
	if now >= b.until {
		b.expected = 0
	}
}

// consider fills b.can with the gateways that have room for the client. It returns the sum of this LBS's parts of their
// accept rates. If none has room, the sum is that of the gateways that are full, and if there are none either,
// that of the gateways that were there last: some will have room again.
func (b *Balancer) consider(r Request, now time.Duration) (rate float64) {
	b.can = b.can[:0]
	var full float64
	for i := range b.gateways {
		g := &b.gateways[i]
		shared := g.Transports & r.Transports
		if shared == 0 || g.Draining || !g.Ready || g.ledger.rate <= 0 {
			continue
		}
		l := g.ledger
		l.advance(now)
		cost := g.Costs.dearest(shared)
		places := math.Floor(float64(g.MaxConnections-g.Connections)/b.lbs) - float64(l.assigned)
		memory := math.Floor((float64(g.Memory)/b.lbs - float64(l.bytes)) / float64(cost))
		free := min(places, memory)
		if free < 1 {
			full += l.rate
			continue
		}
		rate += l.rate
		b.can = append(b.can, candidate{
			gateway: g, shared: shared, cost: cost, room: free, now: l.tokens >= 1, local: r.Site != "" && g.Site == r.Site,
		})
	}
	switch {
	case len(b.can) > 0:
		return rate
	case full > 0:
		return full
	}
	return b.rate / b.lbs
}

// pick returns the index of one of those of b.can that ok takes, by room; -1 if there is none.
func (b *Balancer) pick(ok func(*candidate) bool) int {
	var sum float64
	last := -1
	for i := range b.can {
		if c := &b.can[i]; ok(c) {
			sum += c.room
			last = i
		}
		b.can[i].sum = sum
	}
	if last < 0 {
		return -1
	}
	at := b.rand.Float64() * sum
	i, _ := slices.BinarySearchFunc(b.can, at, func(c candidate, at float64) int {
		if c.sum > at {
			return 1
		}
		return -1
	})
	return min(i, last)
}

// candidates returns the answer's candidates, and takes them out of b.can.
func (b *Balancer) candidates(first int) []Candidate {
	list := make([]Candidate, 0, min(MaxCandidates, len(b.can)))
	take := func(i int) {
		c := &b.can[i]
		list = append(list, Candidate{Gateway: &c.Gateway, Transports: c.shared, Weight: uint32(min(c.room, math.MaxUint32))})
		b.can[i] = b.can[len(b.can)-1]
		b.can = b.can[:len(b.can)-1]
	}
	take(first)
	for _, ok := range []func(*candidate) bool{
		func(c *candidate) bool { return c.local && len(list) <= localSpares },
		func(c *candidate) bool { return !c.local },
		func(*candidate) bool { return true },
	} {
		for len(list) < MaxCandidates {
			i := b.pick(ok)
			if i < 0 {
				break
			}
			take(i)
		}
	}
	return list
}

// comeBack returns the window for a client that is not assigned, and counts it among those that wait.
func (b *Balancer) comeBack(r Request, rate float64, now time.Duration) time.Duration {
	n := max(b.waiting.n+b.expected+1, float64(r.Waiting))
	w := window(n, rate)
	if len(b.can) == 0 {
		w = max(w, FullWindow)
	}
	b.waiting.add(now, w)
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
func (b *Balancer) Waiting() int { return int(math.Ceil(b.waiting.n + b.expected)) }
