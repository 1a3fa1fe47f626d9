package lbs

import (
	"math"
	"slices"
	"time"
)

// localSpares is how many gateways of the client's own site an answer names besides the first,
// before it names those of other sites: a site may fail as a whole.
const localSpares = 2

// option is a gateway that has room for the client who asks.
type option struct {
	*gateway
	shared     Transports // those that both have
	cost       int64      // bytes that the client's connection takes
	room       float64    // for how many clients like this one
	sum        float64    // scratch of pick: of room up to here
	assignable bool       // its rate allows one client more now
	local      bool       // it is in the client's site
}

// consider fills b.options with the gateways that have room for the client. It returns the sum of this LBS's parts of their
// accept rates. If none has room, the sum is that of the gateways that are full, and if there are none either,
// that of the gateways that were there last: some will have room again.
func (b *Balancer) consider(r Request, eager bool, now time.Duration) (rate float64) {
	b.options = b.options[:0]
	var full float64
	for i := range b.gateways {
		g := &b.gateways[i]
		shared := g.Transports & r.Transports
		if shared == 0 || g.Draining || !g.Ready || g.ledger.rate <= 0 {
			continue
		}
		g.ledger.advance(now)
		cost := g.Costs.dearest(shared)
		room := g.room(cost)
		if room < 1 {
			full += g.ledger.rate
			continue
		}
		rate += g.ledger.rate
		b.options = append(b.options, option{
			gateway: g, shared: shared, cost: cost, room: room, assignable: g.ledger.free(eager), local: r.Site != "" && g.Site == r.Site,
		})
	}
	switch {
	case len(b.options) > 0:
		return rate
	case full > 0:
		return full
	}
	return b.part
}

// room returns for how many connections of cost bytes this LBS has places left, in whole ones. It may be negative.
func (g *gateway) room(cost int64) float64 {
	shares := float64(g.Shares)
	places := math.Floor(float64(g.MaxConnections-g.Connections)/shares) - float64(g.ledger.assigned)
	memory := math.Floor((float64(g.Memory)/shares - float64(g.ledger.bytes)) / float64(cost))
	return min(places, memory)
}

// first returns the index of the option that the client is assigned to, and whether there is one.
func (b *Balancer) first() (int, bool) {
	if i, ok := b.pick(func(o *option) bool { return o.assignable && o.local }); ok {
		return i, true
	}
	return b.pick(func(o *option) bool { return o.assignable })
}

// pick returns the index of one of the options that fit, by room, and whether there is one.
func (b *Balancer) pick(fits func(*option) bool) (int, bool) {
	var sum float64
	last := -1
	for i := range b.options {
		if o := &b.options[i]; fits(o) {
			sum += o.room
			last = i
		}
		b.options[i].sum = sum
	}
	if last < 0 {
		return 0, false
	}
	at := b.rand.Float64() * sum
	// The first whose sum is above at fits: those that do not have the sum of the one before.
	i, _ := slices.BinarySearchFunc(b.options, at, func(o option, at float64) int {
		if o.sum > at {
			return 1
		}
		return -1
	})
	return min(i, last), true
}

// candidates returns the answer's candidates, of which first is the first, and takes them out of b.options.
func (b *Balancer) candidates(first int) []Candidate {
	list := make([]Candidate, 0, min(MaxCandidates, len(b.options)))
	move := func(i int) {
		o := &b.options[i]
		list = append(list, Candidate{Gateway: &o.Gateway, Transports: o.shared, Weight: uint32(min(o.room, math.MaxUint32))})
		last := len(b.options) - 1
		b.options[i] = b.options[last]
		b.options = b.options[:last]
	}
	move(first)
	for _, fits := range []func(*option) bool{
		func(o *option) bool { return o.local && len(list) <= localSpares },
		func(o *option) bool { return !o.local },
		func(*option) bool { return true },
	} {
		for len(list) < MaxCandidates {
			i, ok := b.pick(fits)
			if !ok {
				break
			}
			move(i)
		}
	}
	return list
}

// ownRate returns this LBS's part of the accept rate. It is a whole number from 1 on, so that the parts of all
// LBS together are no more than the rate in any second.
func (g *Gateway) ownRate() float64 {
	part := max(g.AcceptRate, 0) / float64(g.Shares)
	if part >= 1 {
		part = math.Floor(part)
	}
	return part
}
