package lbs

import "math/bits"

// Transport is a way to connect to a gateway.
type Transport uint8

// The transports.
const (
	WebSocket Transport = iota
	TCP
	QUIC
	transports
)

var transportNames = [transports]string{"websocket", "tcp", "quic"}

// String returns the transport's name, as in requests and answers.
func (t Transport) String() string {
	if t < transports {
		return transportNames[t]
	}
	return "unknown"
}

// Transports is a set of them.
type Transports uint8

// AllTransports has each.
const AllTransports = Transports(1<<transports - 1)

// Of returns the set of the given transports.
func Of(list ...Transport) Transports {
	var s Transports
	for _, t := range list {
		s |= 1 << t
	}
	return s
}

// Named returns the set of the one transport with that name, and the empty set if this version knows none.
func Named(name string) Transports {
	for t, n := range transportNames {
		if n == name {
			return Of(Transport(t))
		}
	}
	return 0
}

// Names returns the names of the transports in s.
func (s Transports) Names() []string {
	var names []string
	for t, n := range transportNames {
		if s.Has(Transport(t)) {
			names = append(names, n)
		}
	}
	return names
}

// Has reports whether t is in s.
func (s Transports) Has(t Transport) bool { return s&(1<<t) != 0 }

// Costs is how many bytes of a gateway's memory one connection takes, by transport.
type Costs [transports]int64

// DefaultCosts are taken for a gateway that does not say its own: an idle connection of pim's own gateway,
// and ten times that for QUIC.
var DefaultCosts = Costs{WebSocket: 6 << 10, TCP: 6 << 10, QUIC: 60 << 10}

// dearest returns the highest cost of the transports in s, at least 1. s is not empty.
func (c *Costs) dearest(s Transports) int64 {
	most := int64(1)
	for ; s != 0; s &= s - 1 {
		most = max(most, c[bits.TrailingZeros8(uint8(s))])
	}
	return most
}

// Gateway is what the LBS knows of a gateway: what its node says of itself.
type Gateway struct {
	Name       string // of its node; the same after a restart
	Site       string
	Addresses  []string   // URLs at which clients reach it; the LBS only passes them on
	Transports Transports // those that the addresses have

	// Shares is how many LBS give out its places, this one included; less than 1 counts as 1. It is 1 for
	// a node that only itself names, since clients reach it by no address of its own.
	Shares int

	// Connections is how many are open now. -1: its node does not say, as those of earlier versions, and half of
	// MaxConnections is assumed.
	Connections    int
	MaxConnections int // its capacity in connections
	// Memory is how many bytes further connections may take. Garbage is not to be counted as taken, or the room
	// would shrink and grow with each collection.
	Memory     int64
	Costs      Costs   // bytes that each connection takes
	AcceptRate float64 // new connections that it takes in a second; at least one for each of Shares

	Draining bool // it is about to stop
	Ready    bool // it can serve clients
}

// View is what the LBS knows of the whole system.
type View struct {
	Gateways []Gateway // each name once
}
