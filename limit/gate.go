package limit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/pim-im/pim"
)

// Rates bound how often something comes, in times a second. 0 is no bound.
type Rates struct {
	Accept  int // connections of all
	Address int // connections of one IPv4 address, or of one /64 of IPv6
	Network int // connections of one /24 of IPv4, or one /48 of IPv6
	User    int // logins of one user
	Device  int // logins of one device of a user
	Frames  int // frames that one connection sends
	Bytes   int // bytes that one connection sends
}

// How many seconds' worth of a rate may come at once.
const (
	acceptBurst = 2
	sourceBurst = 10 // of an address, and of a network
	loginBurst  = 20
)

const (
	// reserved is the share of the burst of all connections that is left to private
	// addresses: a node that is flooded must still answer the health checks, else
	// whatever watches it starts it again, and everybody comes back at once.
	reserved = 1.0 / 8
	// A network that was let in more often than steadyRate a second, after steadyBurst seconds' worth
	// at once, is eager, and so is a /32 of IPv6 above steadyRange a second. It leaves eagerSpare of
	// the burst of all to those that are not: whoever floods from many networks fills only the
	// rest, and the others are let in before them.
	steadyRate  = 1
	steadyRange = 10
	steadyBurst = 60
	eagerSpare  = 1.0 / 2
	// Those who are refused because all together come too fast are told a random time
	// within a window in which they fit at load times the rate. It is minWindow to
	// maxWindow long: a flood must not keep honest clients away for longer.
	load      = 0.8
	minWindow = 2 * time.Second
	maxWindow = time.Minute
	// sourceSpread is the window for those whose own address, network, user or device
	// comes too fast, from when the next one may come.
	sourceSpread = 10 * time.Second
	// Those whom the node has no room for come back laterFrom to laterFrom + laterSpread
	// later: only that others leave makes room.
	laterFrom   = 5 * time.Second
	laterSpread = 10 * time.Second
	// The same for those who come to a node that is starting, which takes three seconds.
	startingFrom   = time.Second
	startingSpread = 3 * time.Second
)

// A Gate holds rates. Its methods may be called at the same time. now is a monotonic time.
type Gate struct {
	seed   maphash.Seed
	random func() float64

	mu        sync.Mutex
	accept    pace
	all       time.Duration // the state of accept
	steady    line          // of those who were refused because of accept
	eager     line
	addresses sketch
	networks  sketch
	paces     sketch // of networks; who is above is eager
	ranges    sketch // of /32 of IPv6; who is above is eager
	users     sketch
	devices   sketch
	frames    sketch // of devices: what the last connection of one has sent, see Sends
	bytes     sketch
}

// A line is when those who were refused because all come too fast would all be let in, at load.
type line time.Duration

// NewGate returns a Gate for r. random returns numbers from 0 to below 1, and may be called at
// the same time. A Gate takes 512 KiB for the rate Accept, and 256 KiB for each of the others.
func NewGate(r Rates, random func() float64) *Gate {
	g := &Gate{
		seed: maphash.MakeSeed(), random: random,
		accept:    newPace(r.Accept, acceptBurst),
		addresses: newSketch(newPace(r.Address, sourceBurst)),
		networks:  newSketch(newPace(r.Network, sourceBurst)),
		users:     newSketch(newPace(r.User, loginBurst)),
		devices:   newSketch(newPace(r.Device, loginBurst)),
		frames:    newSketch(newPace(r.Frames, budgetBurst)),
		bytes:     newSketch(newPace(r.Bytes, budgetBurst)),
	}
	if r.Accept > 0 {
		g.paces = newSketch(newPace(steadyRate, steadyBurst))
		g.ranges = newSketch(newPace(steadyRange, steadyBurst))
	}
	return g
}

// Connection asks whether a connection may come in, and counts it if so. from is the client's
// address; the zero Addr is a client whose address is not known. Such clients, and those on
// loopback, have no rate of their own: very many may come through one proxy.
func (g *Gate) Connection(now time.Duration, from netip.Addr) Verdict {
	from = from.Unmap().WithZone("")
	own := from.IsValid() && !from.IsLoopback()
	var address, network, around uint64
	if own {
		one, wide := 32, 24
		if from.Is6() {
			one, wide = 64, 48
			around = g.hash(from, 32)
		}
		address, network = g.hash(from, one), g.hash(from, wide)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if own {
		if wait := g.addresses.wait(address, now); wait > 0 {
			return g.refuse(Address, wait)
		}
		if wait := g.networks.wait(network, now); wait > 0 {
			return g.refuse(Network, wait)
		}
	}
	eager := own && (g.paces.wait(network, now) > 0 || from.Is6() && g.ranges.wait(around, now) > 0)
	left, behind := reserved, &g.steady
	switch {
	case private(from):
		left = 0
	case eager:
		left, behind = eagerSpare, &g.eager
	}
	if g.accept.wait(g.all, now, time.Duration(left*float64(g.accept.burst))) > 0 {
		return g.crowded(now, behind)
	}
	g.all = g.accept.next(g.all, now)
	if own {
		g.addresses.charge(address, now)
		g.networks.charge(network, now)
	}
	if own && !eager { // an eager network stays at its limit, and is steady again a second after it slows down
		g.paces.charge(network, now)
		if from.Is6() {
			g.ranges.charge(around, now)
		}
	}
	return Verdict{}
}

// Login asks whether a device of a user may log in, and counts that if so.
func (g *Gate) Login(now time.Duration, user pim.UserID, device pim.DeviceID) Verdict {
	u := maphash.String(g.seed, string(user))
	d := g.device(user, device)
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait := g.devices.wait(d, now); wait > 0 {
		return g.refuse(DeviceLogins, wait)
	}
	if wait := g.users.wait(u, now); wait > 0 {
		return g.refuse(UserLogins, wait)
	}
	g.devices.charge(d, now)
	g.users.charge(u, now)
	return Verdict{}
}

// Later returns the Verdict for somebody whom the node has no room for, because of reason. A node that is starting
// will have room in seconds.
func (g *Gate) Later(reason Reason) Verdict {
	if reason == Starting {
		return Verdict{reason, startingFrom + g.within(startingSpread)}
	}
	return Verdict{reason, laterFrom + g.within(laterSpread)}
}

// refuse returns the Verdict for somebody whose own rate allows one more in wait.
func (g *Gate) refuse(reason Reason, wait time.Duration) Verdict {
	return Verdict{reason, wait + g.within(sourceSpread)}
}

// crowded returns the Verdict for one more in a line who is refused because all come too fast. g.mu
// is held.
func (g *Gate) crowded(now time.Duration, l *line) Verdict {
	each := time.Duration(float64(g.accept.every) / load)
	end := min(max(time.Duration(*l), now)+each, now+maxWindow)
	*l = line(end)
	return Verdict{Accept, max(g.within(max(end-now, minWindow)), time.Millisecond)}
}

func (g *Gate) within(window time.Duration) time.Duration {
	return time.Duration(g.random() * float64(window))
}

// hash returns the hash of the network of bits around addr.
func (g *Gate) hash(addr netip.Addr, bits int) uint64 {
	prefix, _ := addr.Prefix(bits) // fails only for bits that the address does not have
	return maphash.Comparable(g.seed, prefix)
}

// private reports whether addr can only be reached from near: a health check comes from there.
func private(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
}
