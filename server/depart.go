package server

import (
	"math/rand/v2"

	"github.com/pim-im/pim/gateway"
	"github.com/pim-im/pim/lbs"
)

// departing is how the clients of this node leave it, bit by bit, while it drains by order. Only keepTelling
// uses it.
type departing struct {
	clients *gateway.Departing // nil: the node does not drain by order
	sent    int
}

// sendSomeAway sends away as many clients as the other gateways take in tellEvery, if the node drains by order.
func (s *Server) sendSomeAway() {
	d := &s.departing
	if s.cluster == nil || !s.cluster.isOrdered() {
		*d = departing{}
		return
	}
	if d.clients == nil {
		d.clients = s.gateway.Departing()
		s.log.Info("clients are sent to other nodes, as fast as these take them", "clients", d.clients.Left())
	}
	if d.clients.Left() == 0 {
		return
	}
	leave := s.departure()
	farewell := s.farewell(leave)
	farewell.Window = tellEvery
	d.sent += d.clients.Next(leave.Rate*tellEvery.Seconds(), farewell)
	if d.clients.Left() == 0 {
		s.log.Info("all clients were sent to other nodes", "sent", d.sent)
	}
}

// departure returns how the clients of this node leave it, as the nodes are now.
func (s *Server) departure() lbs.Departure {
	nodes, self := s.nodes()
	v := lbs.View{Gateways: gatewaysOf(nodes)}
	return v.Depart(self, int(s.gateway.Open()))
}

// farewell returns what clients are told who leave like that: a window of at least drain-window, and other gateways.
func (s *Server) farewell(d lbs.Departure) gateway.Farewell {
	return gateway.Farewell{
		Window: max(s.config.DrainWindow, d.Window),
		Others: func(transport string) (urls []string) {
			wanted := lbs.TCP
			switch transport {
			case gateway.TransportWebSocket:
				wanted = lbs.WebSocket
			case gateway.TransportQUIC:
				wanted = lbs.QUIC
			}
			for _, g := range d.Draw(rand.Float64) {
				for _, address := range g.Addresses {
					if t, ok := transportOf(address); ok && (t == wanted || wanted == lbs.QUIC && !g.Transports.Has(lbs.QUIC)) {
						urls = append(urls, address)
					}
				}
			}
			return urls
		},
	}
}
