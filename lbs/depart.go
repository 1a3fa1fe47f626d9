package lbs

import (
	"math"
	"time"
)

// Departure is how the clients of one gateway leave it without being more than the others take.
type Departure struct {
	// Rate is how many may leave in a second while the gateway drains: its part of what the others take. 0: none of
	// them takes any.
	Rate float64
	// Window is the time within which all come back at random moments if they are told at once, MaxWindow at most: to
	// the others or, if these take fewer in a second, to this gateway once it has started again. 0: no rate is known.
	Window time.Duration

	others []other
}

// other is a gateway that takes clients of one that is left.
type other struct {
	gateway *Gateway
	takes   float64 // clients in a second: Headroom of its accept rate, and no more than it has places
}

// Depart returns how the clients of the gateway with that name, so many, leave it. Other gateways that drain, too, and still
// have clients count as ones that send as many away. The Departure keeps the gateways of v.
func (v *View) Depart(name string, clients int) Departure {
	var d Departure
	var own, sum float64
	leaving := 1.0
	for i := range v.Gateways {
		g := &v.Gateways[i]
		switch {
		case g.Name == name:
			own = Headroom * g.AcceptRate
		case g.Draining && g.Connections != 0:
			leaving++
		case g.Draining || !g.Ready:
		default:
			if takes := min(Headroom*g.AcceptRate, g.places()); takes > 0 {
				d.others = append(d.others, other{g, takes})
				sum += takes
			}
		}
	}
	d.Rate = sum / leaving
	if rate := max(d.Rate, own); rate > 0 {
		d.Window = time.Duration(math.Ceil(min(float64(clients)/rate, MaxWindow.Seconds())*1000)) * time.Millisecond
	}
	return d
}

// places returns how many connections g can still take, if they are of its dearest transport.
func (g *Gateway) places() float64 {
	connections := g.Connections
	if connections < 0 {
		connections = g.MaxConnections / 2
	}
	return math.Floor(max(0, min(float64(g.MaxConnections-connections), float64(g.Memory/g.Costs.dearest(g.Transports)))))
}

// Draw returns gateways for one client that leaves, the one that it should dial first first, and MaxCandidates at most. It draws them
// by how many each takes, so that clients who are told at the same moment spread. random returns numbers from 0 to 1, without 1.
func (d *Departure) Draw(random func() float64) []*Gateway {
	rest := append([]other(nil), d.others...)
	list := make([]*Gateway, 0, min(MaxCandidates, len(rest)))
	for len(rest) > 0 && len(list) < MaxCandidates {
		var sum float64
		for _, o := range rest {
			sum += o.takes
		}
		i, at := 0, random()*sum
		for ; i < len(rest)-1 && at >= rest[i].takes; i++ {
			at -= rest[i].takes
		}
		list = append(list, rest[i].gateway)
		rest[i] = rest[len(rest)-1]
		rest = rest[:len(rest)-1]
	}
	return list
}
