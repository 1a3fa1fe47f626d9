package gateway

import (
	"math/rand/v2"
	"time"
)

// Farewell is what clients are told whom the gateway sends away because it stops or drains (PIMGoAway 4000).
type Farewell struct {
	// Window is the time within which they are to connect again, at a random moment.
	Window time.Duration
	// Others returns the URLs of other gateways for one client, the one to dial first first, by the name of the client's
	// transport. It is called for each client, from several goroutines. nil: there are none.
	Others func(transport string) []string
}

// Departing are the connections that were open when a gateway began to drain, so that they can be sent away bit by
// bit. Those that come later stay: a client that knows no other gateway would be sent away again and again.
// It is not safe for concurrent use.
type Departing struct {
	conns []*conn
	owed  float64
}

// Departing returns the connections that are open now.
func (g *Gateway) Departing() *Departing {
	d := new(Departing)
	g.Sessions.each(func(c *conn) { d.conns = append(d.conns, c) })
	rand.Shuffle(len(d.conns), func(i, j int) { d.conns[i], d.conns[j] = d.conns[j], d.conns[i] })
	return d
}

// Left returns how many have not been sent away. Some of them may have gone by themselves.
func (d *Departing) Left() int { return len(d.conns) }

// Next sends n of them away, with f. Of a fraction of n, the rest counts the next time. It returns how many it has sent away.
func (d *Departing) Next(n float64, f Farewell) (sent int) {
	for d.owed += n; d.owed >= 1 && len(d.conns) > 0; {
		last := len(d.conns) - 1
		c := d.conns[last]
		d.conns[last] = nil // so that a connection that has gone is not kept in memory
		d.conns = d.conns[:last]
		if !c.Gone() {
			c.sendAway("the server drains", f)
			d.owed--
			sent++
		}
	}
	d.owed = min(d.owed, 1)
	return sent
}
