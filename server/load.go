package server

import (
	"net/url"
	"time"

	"github.com/pim-im/pim/bus"
	"github.com/pim-im/pim/lbs"
)

// tellEvery is how often a node says how busy it is, and an LBS looks at the nodes: as often as nodes hear of each other.
const tellEvery = time.Second

// How many bytes an idle connection takes when there is TLS around it, about. Without it, it takes lbs.DefaultCosts.
const tlsBytes = 10 << 10

// load returns what this node says of its gateway.
func (s *Server) load() bus.Load {
	if !s.config.has(bus.RoleGateway) {
		return bus.Load{}
	}
	l := bus.Load{
		Connections: int(s.gateway.Open()), MaxConnections: s.files.connections, AcceptRate: s.config.acceptsInASecond(), Memory: s.gateway.Room(),
		WebSocket: lbs.DefaultCosts[lbs.WebSocket], TCP: lbs.DefaultCosts[lbs.TCP], Unready: !s.serves.Load() || s.gate() != nil,
	}
	if s.config.Encrypts() {
		l.WebSocket, l.TCP = l.WebSocket+tlsBytes, l.TCP+tlsBytes
	}
	return l
}

// acceptsInASecond returns how many new connections are let in in a second.
func (c *Config) acceptsInASecond() int { return acceptRate(c.AcceptRate, c.Encrypts()) }

// tellLoad tells the other nodes how busy this one is.
func (s *Server) tellLoad() {
	if s.cluster != nil {
		load := s.load()
		s.cluster.bus.Update(func(n *bus.Node) { n.Load = load })
	}
}

// tellOfGateways tells the other nodes of this one's gateway, and this node's LBS of all.
func (s *Server) tellOfGateways() {
	s.tellLoad()
	if s.balance != nil {
		s.balance.look()
	}
}

// keepTelling does that again and again, and sends clients away while the node drains by order, until stop is closed.
func (s *Server) keepTelling(stop <-chan struct{}) {
	t := time.NewTicker(tellEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			s.tellOfGateways()
			s.sendSomeAway()
		}
	}
}

// transportsOf are the transports by the schemes of addresses.
var transportsOf = map[string]lbs.Transport{
	"http": lbs.WebSocket, "https": lbs.WebSocket, "ws": lbs.WebSocket, "wss": lbs.WebSocket, "tcp": lbs.TCP, "tls": lbs.TCP, "quic": lbs.QUIC,
}

// mostAdvertised is how many bytes the addresses may have that a node tells of itself once a second.
const mostAdvertised = 1 << 10

// checkAdvertised returns why clients can't be told the addresses of a node.
func checkAdvertised(advertised string) error {
	if len(advertised) > mostAdvertised {
		return wrong("advertise", "it has more than %d bytes", mostAdvertised)
	}
	var seen lbs.Transports
	for _, address := range commas(advertised) {
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" {
			return wrong("advertise", "%q is not a URL such as https://pim.example.org", address)
		}
		t, ok := transportsOf[u.Scheme]
		switch {
		case !ok:
			return wrong("advertise", "%q: the scheme is none of http, https, ws, wss, tcp, tls, quic", address)
		case t != lbs.WebSocket && u.Port() == "":
			return wrong("advertise", "%q has no port", address)
		case seen.Has(t):
			return wrong("advertise", "%q: there is another address for %s already", address, t)
		}
		seen |= lbs.Of(t)
	}
	return nil
}
